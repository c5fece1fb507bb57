// What this processor offers, as far as the kernels ask.
#pragma once

namespace autoglm::kernels {

/// With FMA and conversions of half precision.
bool has_avx2();
/// AVX2 and the products of bytes in 256-bit registers.
bool has_avx_vnni();
bool has_avx512();
/// AVX-512 with operations on bytes and their products.
bool has_avx512_vnni();
/// Matrix registers and their products of bytes, and the leave of the system to
/// use them, which is asked for here.
bool has_amx_int8();

}  // namespace autoglm::kernels
