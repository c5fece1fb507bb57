#include "passes/quantization/quantizer.h"

#include <algorithm>
#include <cmath>

namespace autoglm {
namespace {

constexpr float kLeastScale = 0x1p-17, kGreatestScale = 65280;

// The fit of the ranges [low, high] [out, groups]. `flip`: codes run downwards,
// so that the side with one code more is the positive one (symmetric only).
GridFit fit_range(const at::Tensor& low, const at::Tensor& high,
                  const Grid& grid, bool flip = false) {
  GridFit fit;
  const auto levels = static_cast<double>(grid.levels());
  if (grid.symmetric) {
    const at::Tensor most = at::maximum(high, low.neg());
    fit.scales = storable_scales(most / ((flip ? -levels : levels) / 2));
    fit.zeros = at::full_like(fit.scales, grid.middle());
    return fit;
  }
  const at::Tensor below = low.clamp_max(0);
  const at::Tensor above = high.clamp_min(0);
  fit.scales = storable_scales((above - below) / levels);
  fit.zeros = (below.neg() / fit.scales).round().clamp(0, levels);
  return fit;
}

}  // namespace

float storable_scale(float scale) {
  if (scale == 0) return 1;
  const float size = std::clamp(std::abs(scale), kLeastScale, kGreatestScale);
  return std::copysign(static_cast<float>(c10::BFloat16(size)), scale);
}

at::Tensor storable_scales(const at::Tensor& scales) {
  const at::Tensor size = scales.abs().clamp(kLeastScale, kGreatestScale);
  const at::Tensor kept = at::where(scales < 0, size.neg(), size);
  return at::where(scales == 0, at::ones({}, scales.options()),
                   kept.to(at::kBFloat16).to(at::kFloat));
}

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
  // Few bits gain from clipping outliers and from the side that has the odd
  // code, 8 bits hardly.
  const int steps = grid.bits <= 4 ? 28 : 12;
  const int sides = grid.symmetric && grid.bits <= 4 ? 2 : 1;
  for (int candidate = 0; candidate < steps * sides; ++candidate) {
    const double shrink = 1.0 - 0.025 * (candidate / sides);
    const GridFit fit = fit_range(low * shrink, high * shrink, grid,
                                  /*flip=*/candidate % sides == 1);
    at::Tensor error =
        (in_groups(dequantize({nearest_codes(weight, fit, grid), fit}, grid),
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

at::Tensor positions_of(const at::Tensor& weight, const GridFit& fit,
                        const Grid& grid) {
  return (in_groups(weight.to(at::kFloat), grid) / fit.scales.unsqueeze(-1) +
          fit.zeros.unsqueeze(-1))
      .view_as(weight);
}

at::Tensor nearest_codes(const at::Tensor& weight, const GridFit& fit,
                         const Grid& grid) {
  return positions_of(weight, fit, grid)
      .round_()
      .clamp_(0, static_cast<double>(grid.levels()));
}

at::Tensor dequantize(const Rounded& rounded, const Grid& grid) {
  return ((in_groups(rounded.codes, grid) - rounded.fit.zeros.unsqueeze(-1)) *
          rounded.fit.scales.unsqueeze(-1))
      .view_as(rounded.codes);
}

Rounded by_rows(const at::Tensor& weight,
                const std::function<Rounded(const at::Tensor&)>& round,
                std::int64_t height) {
  const std::int64_t step =
      height > 0 ? height
                 : std::max<std::int64_t>(
                       1, (std::int64_t{1} << 25) /
                              std::max<std::int64_t>(1, weight.size(1)));
  std::vector<at::Tensor> codes, scales, zeros, positions;
  for (std::int64_t at = 0; at < weight.size(0); at += step) {
    const std::int64_t count = std::min(step, weight.size(0) - at);
    const Rounded part =
        round(weight.narrow(0, at, count).to(at::kFloat).contiguous());
    codes.push_back(part.codes.to(at::kByte));
    scales.push_back(part.fit.scales);
    zeros.push_back(part.fit.zeros);
    if (part.positions.defined()) positions.push_back(part.positions);
  }
  return {at::cat(codes),
          {at::cat(scales), at::cat(zeros)},
          positions.size() == codes.size() ? at::cat(positions) : at::Tensor()};
}

QuantizedWeight pack(const Rounded& rounded, const Grid& grid) {
  return pack_weight(
      rounded.codes.to(at::kByte), rounded.fit.scales.to(grid.scale_dtype),
      grid.symmetric ? at::Tensor() : rounded.fit.zeros.to(at::kByte),
      grid.bits, grid.group_size);
}

}  // namespace autoglm
