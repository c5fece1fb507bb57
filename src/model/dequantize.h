// Rows of a quantized matrix as numbers.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

#include "autoglm/kernels/packed_linear.h"
#include "autoglm/model/weight.h"

namespace autoglm {

constexpr double kFloat8Max = 448;  // the largest e4m3 number

/// Rows of a matrix [.., in] that are converted at once, at least one. On a CPU
/// the copy stays in the cache of the third level; a GPU wants larger products,
/// and 128 MiB in 16 bits do not hurt it.
inline std::int64_t rows_at_once(std::int64_t in, at::Device device) {
  const std::int64_t elements = std::int64_t{1} << (device.is_cpu() ? 22 : 26);
  return std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, in));
}

/// Rows [begin, end) in `dtype`: [end - begin, in]. Of interleaved weights too.
at::Tensor dequantize_rows(const QuantizedWeight& weight, std::int64_t begin,
                           std::int64_t end, at::ScalarType dtype);
at::Tensor dequantize_rows(const Float8Weight& weight, std::int64_t begin,
                           std::int64_t end, at::ScalarType dtype);

/// fp32 values of e4m3 ones, of any shape. On the CPU several times as fast as
/// a conversion by libtorch.
at::Tensor float8_values(const at::Tensor& values);

kernels::ScaleType scale_type(const QuantizedWeight& weight);

/// What the kernels read; points into the tensors of a packed weight, where
/// they are.
kernels::PackedMatrix packed_view(const QuantizedWeight& weight);

}  // namespace autoglm
