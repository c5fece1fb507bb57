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

// One column's grid.
class Column {
 public:
  Column(const GridFit& fit, const Grid& grid, std::int64_t column)
      : scale_(fit.scales.select(1, column / grid.group_size)),
        zero_(fit.zeros.select(1, column / grid.group_size)),
        levels_(static_cast<double>(grid.levels())) {}
  at::Tensor code(const at::Tensor& value) const {
    return (value / scale_ + zero_).round_().clamp_(0, levels_);
  }
  at::Tensor value(const at::Tensor& code) const {
    return (code - zero_) * scale_;
  }

 private:
  at::Tensor scale_, zero_;
  double levels_;
};

// Calls block(begin, count, local [count, count], rows [count, in]) for blocks
// of columns of a coupling matrix [in, in]: inside a block columns are treated
// one by one, what they do to all others follows as one product.
template <class Block>
void for_column_blocks(const at::Tensor& coupling, Block&& block) {
  constexpr std::int64_t kBlock = 128;
  for (std::int64_t begin = 0; begin < coupling.size(0); begin += kBlock) {
    const std::int64_t count = std::min(kBlock, coupling.size(0) - begin);
    const at::Tensor rows = coupling.narrow(0, begin, count);
    block(begin, count, rows.narrow(1, begin, count), rows);
  }
}

// block[:, i+1:] += change x local[i, i+1:].
void spread_right(at::Tensor& block, std::int64_t i, const at::Tensor& change,
                  const at::Tensor& local) {
  const std::int64_t rest = block.size(1) - i - 1;
  if (rest > 0)
    block.narrow(1, i + 1, rest)
        .addr_(change, local.select(0, i).narrow(0, i + 1, rest));
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

at::Tensor nearest_codes(const at::Tensor& weight, const GridFit& fit,
                         const Grid& grid) {
  return (in_groups(weight.to(at::kFloat), grid) / fit.scales.unsqueeze(-1) +
          fit.zeros.unsqueeze(-1))
      .round()
      .clamp(0, static_cast<double>(grid.levels()))
      .view_as(weight);
}

at::Tensor feedback_factor(const at::Tensor& moments) {
  const double mean = moments.diagonal().mean().item<double>();
  if (!(mean > 0)) return {};
  const at::Tensor identity = at::eye(moments.size(0), moments.options());
  const at::Tensor inverse =
      solve_spd(moments + identity * (0.01 * mean), identity);
  const auto [factor, info] =
      at::linalg_cholesky_ex((inverse + inverse.t()) / 2, /*upper=*/true);
  return info.item<int>() == 0 ? factor.to(at::kFloat) : at::Tensor();
}

at::Tensor feedback_codes(const at::Tensor& weight, const GridFit& fit,
                          const Grid& grid, const at::Tensor& factor) {
  at::Tensor rest = weight.clone();
  at::Tensor codes = at::empty_like(rest);
  for_column_blocks(
      factor, [&](std::int64_t begin, std::int64_t count,
                  const at::Tensor& local, const at::Tensor& rows) {
        at::Tensor block = rest.narrow(1, begin, count).clone();
        at::Tensor errors = at::empty_like(block);
        for (std::int64_t i = 0; i < count; ++i) {
          const Column on(fit, grid, begin + i);
          const at::Tensor column = block.select(1, i);
          const at::Tensor code = on.code(column);
          codes.select(1, begin + i).copy_(code);
          const at::Tensor error = (column - on.value(code)) / local[i][i];
          errors.select(1, i).copy_(error);
          spread_right(block, i, error.neg(), local);
        }
        rest.addmm_(errors, rows, 1, -1);
      });
  return codes;
}

bool descend_codes(Rounded& rounded, const Grid& grid,
                   const at::Tensor& moments, at::Tensor& gradient) {
  // An input that is always zero leaves its codes where they are.
  const at::Tensor curvature = moments.diagonal();
  const at::Tensor step =
      at::where(curvature > 0, curvature.reciprocal(), at::zeros({}));
  const at::Tensor before = rounded.codes;
  at::Tensor codes = before.clone();
  for_column_blocks(
      moments, [&](std::int64_t begin, std::int64_t count,
                   const at::Tensor& local, const at::Tensor& rows) {
        at::Tensor block = gradient.narrow(1, begin, count).clone();
        at::Tensor moves = at::empty_like(block);
        for (std::int64_t i = 0; i < count; ++i) {
          const Column on(rounded.fit, grid, begin + i);
          const at::Tensor code = codes.select(1, begin + i);
          const at::Tensor value = on.value(code);
          const at::Tensor better =
              on.code(value - block.select(1, i) * step[begin + i]);
          const at::Tensor move = on.value(better) - value;
          code.copy_(better);
          moves.select(1, i).copy_(move);
          spread_right(block, i, move, local);
        }
        gradient.addmm_(moves, rows);
      });
  rounded.codes = codes;
  return !at::equal(codes, before);
}

bool descend_scales(Rounded& rounded, const Grid& grid,
                    const at::Tensor& moments, at::Tensor& gradient) {
  const at::Tensor before = rounded.fit.scales;
  rounded.fit.scales = before.clone();
  const at::Tensor units =
      in_groups(rounded.codes, grid) - rounded.fit.zeros.unsqueeze(-1);
  const std::int64_t size = grid.group_size;
  for (std::int64_t g = 0; g < before.size(1); ++g) {
    const at::Tensor unit = units.select(1, g);  // [out, size]
    const at::Tensor rows = moments.narrow(0, g * size, size);
    const at::Tensor slope =
        (unit * gradient.narrow(1, g * size, size)).sum(-1);
    const at::Tensor curvature =
        (at::mm(unit, rows.narrow(1, g * size, size)) * unit).sum(-1);
    at::Tensor scale = rounded.fit.scales.select(1, g);
    const at::Tensor best =
        (scale - slope / curvature).to(grid.scale_dtype).to(at::kFloat);
    // A group without effect, or one that would have to turn over, stays.
    const at::Tensor chosen =
        at::where(at::logical_and(curvature > 0, best > 0), best, scale);
    gradient.addmm_(unit * (chosen - scale).unsqueeze(-1), rows);
    scale.copy_(chosen);
  }
  return !at::equal(rounded.fit.scales, before);
}

at::Tensor dequantize(const Rounded& rounded, const Grid& grid) {
  return ((in_groups(rounded.codes, grid) - rounded.fit.zeros.unsqueeze(-1)) *
          rounded.fit.scales.unsqueeze(-1))
      .view_as(rounded.codes);
}

Rounded by_rows(const at::Tensor& weight,
                const std::function<Rounded(const at::Tensor&)>& round) {
  const std::int64_t step = std::max<std::int64_t>(
      1, (std::int64_t{1} << 25) / std::max<std::int64_t>(1, weight.size(1)));
  std::vector<at::Tensor> codes, scales, zeros;
  for (std::int64_t at = 0; at < weight.size(0); at += step) {
    const std::int64_t count = std::min(step, weight.size(0) - at);
    const Rounded part =
        round(weight.narrow(0, at, count).to(at::kFloat).contiguous());
    codes.push_back(part.codes.to(at::kByte));
    scales.push_back(part.fit.scales);
    zeros.push_back(part.fit.zeros);
  }
  return {at::cat(codes), {at::cat(scales), at::cat(zeros)}};
}

QuantizedWeight pack(const Rounded& rounded, const Grid& grid) {
  return pack_weight(
      rounded.codes.to(at::kByte), rounded.fit.scales.to(grid.scale_dtype),
      grid.symmetric ? at::Tensor() : rounded.fit.zeros.to(at::kByte),
      grid.bits, grid.group_size);
}

}  // namespace autoglm
