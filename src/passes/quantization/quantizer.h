// Uniform integer grids for weights: scales, codes, and the fake-quantized
// matrix they stand for. weight = (code - zero) * scale, code in [0, 2^b - 1].
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/model/weight.h"

namespace autoglm {

struct Grid {
  int bits = 8;
  std::int64_t group_size = 0;  // divides `in`
  bool symmetric = true;        // zero = 2^(b-1)
  at::ScalarType scale_dtype = at::kBFloat16;

  std::int64_t levels() const { return (std::int64_t{1} << bits) - 1; }
  double middle() const { return static_cast<double>(1 << (bits - 1)); }
};

/// Scales and zero points of a matrix [out, in]; both [out, groups] fp32. The
/// scales are already values of scale_dtype, so that packing changes nothing.
struct GridFit {
  at::Tensor scales;
  at::Tensor zeros;
};

/// [out, in] -> [out, groups, group_size].
at::Tensor in_groups(const at::Tensor& matrix, const Grid& grid);

/// From the extremes of each group. Symmetric: scale = max|w| / ((2^b-1)/2),
/// the compressed-tensors convention: the most negative value reaches the last
/// code, the most positive clips by half a step. Asymmetric: scale =
/// (max - min) / (2^b - 1) with 0 inside the range, zero = round(-min / scale).
GridFit fit_min_max(const at::Tensor& weight, const Grid& grid);

/// Searches shrunken ranges per group for the least squared error, weighted by
/// `importance` [in] (mean square of each input), or evenly if undefined.
GridFit fit_least_error(const at::Tensor& weight, const at::Tensor& importance,
                        const Grid& grid);

/// Nearest codes, fp32 [out, in].
at::Tensor nearest_codes(const at::Tensor& weight, const GridFit& fit,
                         const Grid& grid);

/// Codes by error feedback (GPTQ, arXiv 2210.17323): column by column, the
/// rounding error of one is put into the columns not yet rounded, in the metric
/// of `moments` [in, in].
at::Tensor feedback_codes(const at::Tensor& weight, const GridFit& fit,
                          const Grid& grid, const at::Tensor& moments);

/// (codes - zeros) * scales, fp32 [out, in].
at::Tensor dequantize(const at::Tensor& codes, const GridFit& fit,
                      const Grid& grid);

QuantizedWeight pack(const at::Tensor& codes, const GridFit& fit,
                     const Grid& grid);

}  // namespace autoglm
