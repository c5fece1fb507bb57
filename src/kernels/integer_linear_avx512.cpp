// Compiled with -mavx512f -mavx512bw -mavx512vnni -mfma.
#include "kernels/integer_implementation.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include "kernels/integer_avx512.h"

namespace autoglm::kernels {

const IntegerImplementation* avx512_integer_implementation() {
  static constexpr IntegerImplementation value = {
      "avx512vnni", integer_linear_any<Avx512Vnni>, round_row_any<Avx512Vnni>};
  return &value;
}

}  // namespace autoglm::kernels

#else

namespace autoglm::kernels {
const IntegerImplementation* avx512_integer_implementation() { return nullptr; }
}  // namespace autoglm::kernels

#endif
