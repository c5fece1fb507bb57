#include "passes/quantization/quantizer.h"

#include "autoglm/core/error.h"
#include "passes/layer_moments.h"

namespace autoglm {
namespace {

// A group of zeros gets the scale 1: any positive one is right.
at::Tensor usable_scale(const at::Tensor& scale, const Grid& grid) {
  const at::Tensor rounded = scale.to(grid.scale_dtype).to(at::kFloat);
  return at::where(rounded > 0, rounded, at::ones_like(rounded));
}

// The fit of the ranges [low, high] [out, groups].
GridFit fit_range(const at::Tensor& low, const at::Tensor& high,
                  const Grid& grid) {
  GridFit fit;
  const auto levels = static_cast<double>(grid.levels());
  if (grid.symmetric) {
    const at::Tensor most = at::maximum(high, low.neg());
    fit.scales = usable_scale(most / (levels / 2), grid);
    fit.zeros = at::full_like(fit.scales, grid.middle());
    return fit;
  }
  const at::Tensor below = low.clamp_max(0);
  const at::Tensor above = high.clamp_min(0);
  fit.scales = usable_scale((above - below) / levels, grid);
  fit.zeros = (below.neg() / fit.scales).round().clamp(0, levels);
  return fit;
}

}  // namespace

at::Tensor in_groups(const at::Tensor& matrix, const Grid& grid) {
  return matrix.reshape({matrix.size(0), -1, grid.group_size});
}

GridFit fit_min_max(const at::Tensor& weight, const Grid& grid) {
  const at::Tensor groups = in_groups(weight.to(at::kFloat), grid);
  return fit_range(groups.amin(-1), groups.amax(-1), grid);
}

GridFit fit_least_error(const at::Tensor& weight, const at::Tensor& importance,
                        const Grid& grid) {
  const at::Tensor groups = in_groups(weight.to(at::kFloat), grid);
  const at::Tensor low = groups.amin(-1), high = groups.amax(-1);
  at::Tensor share;
  if (importance.defined())
    share = importance.to(at::kFloat).view({1, -1, grid.group_size});
  GridFit best;
  at::Tensor least;
  // Few bits gain from clipping outliers, 8 bits hardly.
  const int steps = grid.bits <= 4 ? 28 : 12;
  for (int step = 0; step < steps; ++step) {
    const double shrink = 1.0 - 0.025 * step;
    const GridFit fit = fit_range(low * shrink, high * shrink, grid);
    at::Tensor error =
        (in_groups(dequantize(nearest_codes(weight, fit, grid), fit, grid),
                   grid) -
         groups)
            .square();
    if (share.defined()) error = error * share;
    error = error.sum(-1);
    if (!least.defined()) {
      best = fit;
      least = error;
      continue;
    }
    const at::Tensor better = error < least;
    best.scales = at::where(better, fit.scales, best.scales);
    best.zeros = at::where(better, fit.zeros, best.zeros);
    least = at::where(better, error, least);
  }
  return best;
}

at::Tensor nearest_codes(const at::Tensor& weight, const GridFit& fit,
                         const Grid& grid) {
  return (in_groups(weight.to(at::kFloat), grid) / fit.scales.unsqueeze(-1) +
          fit.zeros.unsqueeze(-1))
      .round()
      .clamp(0, static_cast<double>(grid.levels()))
      .view_as(weight);
}

at::Tensor feedback_codes(const at::Tensor& weight, const GridFit& fit,
                          const Grid& grid, const at::Tensor& moments) {
  const std::int64_t in = weight.size(1);
  // GPTQ dampens by 1 % of the mean diagonal.
  const at::Tensor identity = at::eye(in, moments.options());
  const double mean = moments.diagonal().mean().item<double>();
  if (!(mean > 0)) return nearest_codes(weight, fit, grid);
  const at::Tensor damped = moments + identity * (0.01 * mean);
  // Rows of the upper Cholesky factor of the inverse hold, per column, how its
  // error spreads over the later ones.
  const at::Tensor inverse = solve_spd(damped, identity);
  const auto [factor, info] =
      at::linalg_cholesky_ex((inverse + inverse.t()) / 2, /*upper=*/true);
  if (info.item<int>() != 0) return nearest_codes(weight, fit, grid);
  const at::Tensor spread = factor.to(at::kFloat);
  at::Tensor rest = weight.to(at::kFloat).clone();
  at::Tensor codes = at::empty_like(rest);
  constexpr std::int64_t kBlock = 128;
  for (std::int64_t begin = 0; begin < in; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, in - begin);
    at::Tensor block = rest.narrow(1, begin, count).clone();
    at::Tensor errors = at::empty_like(block);
    const at::Tensor local =
        spread.narrow(0, begin, count).narrow(1, begin, count);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t group = (begin + i) / grid.group_size;
      const at::Tensor scale = fit.scales.select(1, group);
      const at::Tensor zero = fit.zeros.select(1, group);
      const at::Tensor column = block.select(1, i);
      const at::Tensor code = (column / scale + zero)
                                  .round()
                                  .clamp(0, static_cast<double>(grid.levels()));
      codes.select(1, begin + i).copy_(code);
      const at::Tensor error =
          (column - (code - zero) * scale) / local[i][i];
      errors.select(1, i).copy_(error);
      if (i + 1 < count)
        block.narrow(1, i + 1, count - i - 1)
            .sub_(at::outer(error,
                            local.select(0, i).narrow(0, i + 1, count - i - 1)));
    }
    const std::int64_t after = begin + count;
    if (after < in)
      rest.narrow(1, after, in - after)
          .sub_(at::mm(errors, spread.narrow(0, begin, count)
                                   .narrow(1, after, in - after)));
  }
  return codes;
}

at::Tensor dequantize(const at::Tensor& codes, const GridFit& fit,
                      const Grid& grid) {
  return ((in_groups(codes, grid) - fit.zeros.unsqueeze(-1)) *
          fit.scales.unsqueeze(-1))
      .view_as(codes);
}

QuantizedWeight pack(const at::Tensor& codes, const GridFit& fit,
                     const Grid& grid) {
  return pack_weight(codes.to(at::kByte), fit.scales.to(grid.scale_dtype),
                     grid.symmetric ? at::Tensor() : fit.zeros.to(at::kByte),
                     grid.bits, grid.group_size);
}

}  // namespace autoglm
