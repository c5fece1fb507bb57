#include "passes/quantization/descent.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

namespace autoglm {
namespace {

at::Tensor on_cpu(const at::Tensor& tensor) {
  return tensor.to(at::kCPU, at::kFloat).contiguous();
}

// Some columns of a matrix, treated row after row on the processor, whatever
// the device: a column at a time would be thousands of tiny launches.
class Panel {
 public:
  // `moments`: [count, count] of these columns; `gradient` as descend_codes has
  // it, [out, in].
  Panel(const at::Tensor& gradient, const at::Tensor& moments,
        const at::Tensor& outputs, std::int64_t begin)
      : count_(moments.size(0)), outputs_(on_cpu_or_none(outputs)) {
    const at::Tensor own = gradient.narrow(1, begin, count_);
    slope_ = on_cpu(outputs.defined() ? at::mm(outputs, own) : own);
    if (!outputs.defined()) slope_ = slope_.clone();
    moves_ = at::zeros_like(slope_);
    effect_ = at::zeros_like(slope_);
  }

  /// What the rows moved by, [out, count].
  const at::Tensor& moves() const { return moves_; }

  /// Calls step(row, slope, moves, effect), all [count]: from half the gradient
  /// of a row, in units of its own weight in S, what the row moves by, and that
  /// times the moments. Both are 0 before. Rows see what earlier ones did to
  /// them through S; without S they run side by side.
  template <class Step>
  void for_rows(const Step& step) {
    const std::int64_t out = slope_.size(0);
    auto* slope = slope_.mutable_data_ptr<float>();
    auto* moves = moves_.mutable_data_ptr<float>();
    auto* effect = effect_.mutable_data_ptr<float>();
    if (!outputs_.defined()) {
      at::parallel_for(0, out, 16, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t r = from; r < to; ++r)
          step(r, slope + r * count_, moves + r * count_, effect + r * count_);
      });
      return;
    }
    // Rows of a block tell each other at once, all later ones in one product.
    constexpr std::int64_t kRows = 32;
    const auto* weights = outputs_.const_data_ptr<float>();
    for (std::int64_t begin = 0; begin < out; begin += kRows) {
      const std::int64_t end = std::min(out, begin + kRows);
      for (std::int64_t r = begin; r < end; ++r) {
        float* own = slope + r * count_;
        const float* coupling = weights + r * out;
        for (std::int64_t other = begin; other < r; ++other)
          for (std::int64_t i = 0; i < count_; ++i)
            own[i] += coupling[other] * effect[other * count_ + i];
        for (std::int64_t i = 0; i < count_; ++i) own[i] /= coupling[r];
        step(r, own, moves + r * count_, effect + r * count_);
      }
      if (end < out)
        slope_.narrow(0, end, out - end)
            .addmm_(outputs_.narrow(0, end, out - end)
                        .narrow(1, begin, end - begin),
                    effect_.narrow(0, begin, end - begin));
    }
  }

 private:
  static at::Tensor on_cpu_or_none(const at::Tensor& tensor) {
    return tensor.defined() ? on_cpu(tensor) : tensor;
  }

  std::int64_t count_;
  at::Tensor outputs_, slope_, moves_, effect_;
};

// One of the codes of a row in a panel or group of `count` columns.
struct CodeAt {
  std::int64_t column, count;
  float scale, zero, levels;

  /// Moves `codes[column]` to its best value; tells `moves`, and `effect` with
  /// the column's row of the moments. An input that is always zero leaves its
  /// code where it is.
  void descend(const float* coupling, const float* slope, float* codes,
               float* moves, float* effect) const {
    const float curvature = coupling[column];
    if (!(curvature > 0)) return;
    const float value = (codes[column] - zero) * scale;
    const float ideal = value - (slope[column] + effect[column]) / curvature;
    const float better =
        std::clamp(std::nearbyint(ideal / scale + zero), 0.F, levels);
    if (better == codes[column]) return;
    const float move = (better - zero) * scale - value;
    codes[column] = better;
    moves[column] += move;
    for (std::int64_t j = 0; j < count; ++j) effect[j] += move * coupling[j];
  }
};

// One row's codes in a panel, moved to the best one column after the other.
// Columns that stay, which are nearly all after the first sweep, cost a few
// operations each.
struct CodeStep {
  std::int64_t begin, count, group_size, groups;
  float levels;
  const float* scales;  // [out, groups]
  const float* zeros;
  const float* moments;  // [count, count]
  float* codes;          // [out, count]

  void operator()(std::int64_t row, const float* slope, float* moves,
                  float* effect) const {
    float* code = codes + row * count;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t group = row * groups + (begin + i) / group_size;
      CodeAt{i, count, scales[group], zeros[group], levels}.descend(
          moments + i * count, slope, code, moves, effect);
    }
  }
};

constexpr std::int64_t kLongestSearched = 1024;

// One row's codes and scale in one group.
struct GroupState {
  const float* codes;        // [size]
  const float* unit_effect;  // codes less zero point, times the moments
  float scale;
};

// Another scale with the codes that suit it.
struct GroupMove {
  float scale = 0;
  std::vector<float> codes, moves, effect;
  float change = 0;  // of the loss
};

// A scale and its codes hang together: at a scale that is better for other
// codes, those of now are worse. So each scale is tried with codes that descend
// from those of now.
struct GroupSearch {
  std::int64_t size;
  float levels, zero;
  const float* moments;  // [size, size]
  const float* slope;    // [size]

  GroupMove attempt(const GroupState& from, float scale) const {
    GroupMove out;
    out.scale = scale;
    out.codes.assign(from.codes, from.codes + size);
    out.moves.resize(static_cast<std::size_t>(size));
    out.effect.resize(static_cast<std::size_t>(size));
    float* code = out.codes.data();
    float* moves = out.moves.data();
    float* effect = out.effect.data();
    const float by = scale - from.scale;
    for (std::int64_t i = 0; i < size; ++i) {
      moves[i] = by * (code[i] - zero);
      effect[i] = by * from.unit_effect[i];
    }
    // Of long groups the scale alone: codes of a row of thousands would take
    // as long as many sweeps over all of them.
    const int sweeps = size <= kLongestSearched ? 2 : 0;
    for (int sweep = 0; sweep < sweeps; ++sweep)
      for (std::int64_t i = 0; i < size; ++i)
        CodeAt{i, size, scale, zero, levels}.descend(moments + i * size, slope,
                                                     code, moves, effect);
    for (std::int64_t i = 0; i < size; ++i)
      out.change += moves[i] * (slope[i] + 0.5F * effect[i]);
    return out;
  }

  /// Nothing where no scale tried is better. A group without effect, or one
  /// that would have to turn over, stays.
  std::optional<GroupMove> best(const GroupState& now) const {
    float curvature = 0, along = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      const float unit = now.codes[i] - zero;
      curvature += unit * now.unit_effect[i];
      along += unit * slope[i];
    }
    if (!(curvature > 0)) return std::nullopt;
    const float least = now.scale - along / curvature;
    std::optional<GroupMove> out;
    const auto consider = [&](float other) {
      const float scale = storable_scale(other);
      if (scale == now.scale || !(scale * now.scale > 0)) return;
      GroupMove move = attempt(now, scale);
      if (move.change < (out ? out->change : 0.F)) out = std::move(move);
    };
    consider(least);
    // Fine grids find the way in small steps.
    if (levels <= 7)
      for (const float factor : {0.9F, 0.95F, 1.05F, 1.1F})
        consider(now.scale * factor);
    return out;
  }
};

}  // namespace

bool descend_codes(Rounded& rounded, const Grid& grid,
                   const at::Tensor& moments, at::Tensor& gradient,
                   const at::Tensor& outputs) {
  constexpr std::int64_t kColumns = 128;
  const at::Tensor before = rounded.codes;
  at::Tensor codes = before.clone();
  const at::Tensor scales = on_cpu(rounded.fit.scales);
  const at::Tensor zeros = on_cpu(rounded.fit.zeros);
  for (std::int64_t begin = 0; begin < moments.size(0); begin += kColumns) {
    const std::int64_t count = std::min(kColumns, moments.size(0) - begin);
    const at::Tensor rows = moments.narrow(0, begin, count);
    const at::Tensor local = on_cpu(rows.narrow(1, begin, count));
    at::Tensor code = on_cpu(codes.narrow(1, begin, count));
    Panel panel(gradient, local, outputs, begin);
    panel.for_rows(CodeStep{
        begin, count, grid.group_size, scales.size(1),
        static_cast<float>(grid.levels()), scales.const_data_ptr<float>(),
        zeros.const_data_ptr<float>(), local.const_data_ptr<float>(),
        code.mutable_data_ptr<float>()});
    codes.narrow(1, begin, count).copy_(code);
    gradient.addmm_(panel.moves().to(gradient.device()), rows);
  }
  rounded.codes = codes;
  return !at::equal(codes, before);
}

bool descend_scales(Rounded& rounded, const Grid& grid,
                    const at::Tensor& moments, at::Tensor& gradient,
                    const at::Tensor& outputs) {
  const Rounded before = rounded;
  rounded.fit.scales = before.fit.scales.clone();
  rounded.codes = before.codes.clone();
  const std::int64_t size = grid.group_size;
  for (std::int64_t g = 0; g < before.fit.scales.size(1); ++g) {
    const at::Tensor rows = moments.narrow(0, g * size, size);
    const at::Tensor local = on_cpu(rows.narrow(1, g * size, size));
    at::Tensor codes = rounded.codes.narrow(1, g * size, size);
    at::Tensor code = on_cpu(codes).clone();
    at::Tensor scales = on_cpu(before.fit.scales.select(1, g)).clone();
    const at::Tensor zeros = on_cpu(before.fit.zeros.select(1, g));
    const auto* coupling = local.const_data_ptr<float>();
    const auto* zero = zeros.const_data_ptr<float>();
    auto* at_code = code.mutable_data_ptr<float>();
    auto* scale = scales.mutable_data_ptr<float>();
    // Times the moments, as if the scales were 1.
    const at::Tensor effects = at::mm(code - zeros.unsqueeze(-1), local);
    const auto* unit_effect = effects.const_data_ptr<float>();
    Panel panel(gradient, local, outputs, g * size);
    panel.for_rows(
        [&](std::int64_t row, const float* slope, float* moves, float* effect) {
          const GroupSearch search{size, static_cast<float>(grid.levels()),
                                   zero[row], coupling, slope};
          const GroupState now{at_code + row * size, unit_effect + row * size,
                               scale[row]};
          if (const auto found = search.best(now)) {
            std::copy(found->codes.begin(), found->codes.end(),
                      at_code + row * size);
            std::copy(found->moves.begin(), found->moves.end(), moves);
            std::copy(found->effect.begin(), found->effect.end(), effect);
            scale[row] = found->scale;
          }
        });
    codes.copy_(code);
    rounded.fit.scales.select(1, g).copy_(scales);
    gradient.addmm_(panel.moves().to(gradient.device()), rows);
  }
  return !at::equal(rounded.fit.scales, before.fit.scales);
}

}  // namespace autoglm
