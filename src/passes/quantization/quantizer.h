// Uniform integer grids for weights: scales, codes, and the fake-quantized
// matrix they stand for. weight = (code - zero) * scale, code in [0, 2^b - 1].
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>

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
/// scales are storable (below), so that packing changes nothing. A negative
/// scale turns the grid over: its odd code is then a positive value.
struct GridFit {
  at::Tensor scales;
  at::Tensor zeros;
};

/// A matrix on its grid: codes [out, in] (integers in fp32, or bytes) and what
/// they stand for.
struct Rounded {
  at::Tensor codes;
  GridFit fit;
  /// What was rounded to the codes, in grid steps; for learning to start from.
  /// Undefined: the codes themselves.
  at::Tensor positions = {};
};

/// The nearest scales that bf16 and fp16 hold both, fp32: no format and no
/// transcoding changes them. Sizes from 2^-17 to 65280; 0 becomes 1.
at::Tensor storable_scales(const at::Tensor& scales);
float storable_scale(float scale);

/// [out, in] -> [out, groups, group_size].
at::Tensor in_groups(const at::Tensor& matrix, const Grid& grid);

/// From the extremes of each group. Symmetric: scale = max|w| / ((2^b-1)/2),
/// the compressed-tensors convention: the most negative value reaches the last
/// code, the most positive clips by half a step. Asymmetric: scale =
/// (max - min) / (2^b - 1) with 0 inside the range, zero = round(-min / scale).
GridFit fit_min_max(const at::Tensor& weight, const Grid& grid);

/// Searches shrunken ranges per group, in both directions where the grid is
/// symmetric and coarse, for the least squared error, weighted by `importance`
/// [in] (mean square of each input), or evenly if undefined.
GridFit fit_least_error(const at::Tensor& weight, const at::Tensor& importance,
                        const Grid& grid);

/// weight / scale + zero, fp32 [out, in]: where a weight lies on its grid.
at::Tensor positions_of(const at::Tensor& weight, const GridFit& fit,
                        const Grid& grid);

/// Nearest codes, fp32 [out, in].
at::Tensor nearest_codes(const at::Tensor& weight, const GridFit& fit,
                         const Grid& grid);

/// (codes - zeros) * scales, fp32 [out, in].
at::Tensor dequantize(const Rounded& rounded, const Grid& grid);

/// Applies `round` to parts of the rows, each an fp32 matrix, and joins what it
/// returns, the codes as bytes. Parts of `height` rows, or 0: of at most 2^25
/// elements, so that what rounding needs beside the matrix does not grow with
/// the vocabulary.
Rounded by_rows(const at::Tensor& weight,
                const std::function<Rounded(const at::Tensor&)>& round,
                std::int64_t height = 0);

QuantizedWeight pack(const Rounded& rounded, const Grid& grid);

}  // namespace autoglm
