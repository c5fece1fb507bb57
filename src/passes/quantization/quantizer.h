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
/// scales are already values of scale_dtype, so that packing changes nothing.
struct GridFit {
  at::Tensor scales;
  at::Tensor zeros;
};

/// A matrix on its grid: codes [out, in] (integers in fp32, or bytes) and what
/// they stand for.
struct Rounded {
  at::Tensor codes;
  GridFit fit;
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

/// The upper Cholesky factor of the inverse of `moments` [in, in], dampened by
/// 1 % of its mean diagonal: row k holds how the error of column k spreads over
/// the later ones. Undefined where there is none.
at::Tensor feedback_factor(const at::Tensor& moments);

/// Codes by error feedback (GPTQ, arXiv 2210.17323): column by column, the
/// rounding error of one is put into the columns not yet rounded.
at::Tensor feedback_codes(const at::Tensor& weight, const GridFit& fit,
                          const Grid& grid, const at::Tensor& factor);

/// One sweep of coordinate descent over the codes: each column in turn moves to
/// its best codes with all others held. `moments`: Szz [in, in]; `gradient`:
/// half the gradient at `rounded` [out, in], kept up to date. True if any code
/// changed. The loss never rises.
bool descend_codes(Rounded& rounded, const Grid& grid,
                   const at::Tensor& moments, at::Tensor& gradient);

/// The same over the scales, group by group, in their storage type.
bool descend_scales(Rounded& rounded, const Grid& grid,
                    const at::Tensor& moments, at::Tensor& gradient);

/// (codes - zeros) * scales, fp32 [out, in].
at::Tensor dequantize(const Rounded& rounded, const Grid& grid);

/// Applies `round` to parts of the rows, each an fp32 matrix of at most 2^25
/// elements, and joins what it returns, the codes as bytes: what rounding needs
/// beside the matrix does not grow with the vocabulary.
Rounded by_rows(const at::Tensor& weight,
                const std::function<Rounded(const at::Tensor&)>& round);

QuantizedWeight pack(const Rounded& rounded, const Grid& grid);

}  // namespace autoglm
