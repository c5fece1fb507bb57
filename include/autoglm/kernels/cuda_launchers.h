// All functions of cuda_kernels.h and cuda_stream_kernels.h as one table of
// pointers: code that is not linked with them calls them through it.
#pragma once

#include "autoglm/kernels/cuda_kernels.h"
#include "autoglm/kernels/cuda_stream_kernels.h"

namespace autoglm::kernels::cuda {

struct Launchers {
  Status (*packed_linear)(const PackedMatrix&, const LinearArguments&, Stream);
  Status (*float8_linear)(const Float8Matrix&, const LinearArguments&, Stream);
  std::int64_t (*packed_workspace)(const PackedMatrix&, NumberType,
                                   std::int64_t rows);
  std::int64_t (*float8_workspace)(const Float8Matrix&, NumberType,
                                   std::int64_t rows);
  Status (*unpack_packed)(const PackedMatrix&, std::int64_t row_begin,
                          std::int64_t row_end, void* out, NumberType, Stream);
  Status (*unpack_float8)(const Float8Matrix&, std::int64_t row_begin,
                          std::int64_t row_end, void* out, NumberType, Stream);
  Status (*rms_norm)(const NormArguments&, Stream);
  Status (*silu_product)(const SiluArguments&, Stream);
  Status (*rotate_heads)(const RotaryArguments&, Stream);
  Status (*round_to_int8)(const RoundArguments&, Stream);
  Status (*decode_attention)(const AttentionArguments&, Stream);
  std::int64_t (*attention_workspace)(std::int64_t batch, std::int64_t heads,
                                      std::int64_t groups, std::int64_t tokens,
                                      std::int64_t size);
};

/// The table of the library that the caller is linked with.
inline Launchers launchers() {
  Launchers out = {};
  out.packed_linear = packed_linear;
  out.float8_linear = float8_linear;
  out.packed_workspace = linear_workspace;
  out.float8_workspace = linear_workspace;
  out.unpack_packed = unpack_rows;
  out.unpack_float8 = unpack_rows;
  out.rms_norm = rms_norm;
  out.silu_product = silu_product;
  out.rotate_heads = rotate_heads;
  out.round_to_int8 = round_to_int8;
  out.decode_attention = decode_attention;
  out.attention_workspace = attention_workspace;
  return out;
}

}  // namespace autoglm::kernels::cuda
