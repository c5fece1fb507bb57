#include "passes/quantization/descent.h"

#include <algorithm>

namespace autoglm {
namespace {

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
    const at::Tensor best = storable_scales(scale - slope / curvature);
    // A group without effect, or one that would have to turn over, stays.
    const at::Tensor chosen = at::where(
        at::logical_and(curvature > 0, (scale - slope / curvature) * scale > 0),
        best, scale);
    gradient.addmm_(unit * (chosen - scale).unsqueeze(-1), rows);
    scale.copy_(chosen);
  }
  return !at::equal(rounded.fit.scales, before);
}

}  // namespace autoglm
