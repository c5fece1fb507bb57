#include "passes/pruning/obs.h"

#include <algorithm>
#include <limits>

#include "autoglm/core/interrupt.h"

namespace autoglm {
namespace {

// S W, with S in blocks on its diagonal; W itself without one.
at::Tensor weighed(const OutputMetric* outputs, const at::Tensor& matrix) {
  if (outputs == nullptr) return matrix;
  std::vector<at::Tensor> parts;
  std::int64_t row = 0;
  for (const at::Tensor& part : *outputs) {
    parts.push_back(
        at::mm(part.to(at::kDouble), matrix.narrow(0, row, part.size(0))));
    row += part.size(0);
  }
  return at::cat(parts);
}

}  // namespace

at::Tensor obs_scores(const at::Tensor& weight, const Moments& inputs,
                      std::int64_t size, std::int64_t fewest,
                      const OutputMetric* outputs, double ridge) {
  constexpr std::int64_t kRounds = 256;
  constexpr double kGone = std::numeric_limits<double>::infinity();
  const std::int64_t in = weight.size(1), units = in / size;
  const at::Tensor wide = weight.to(at::kDouble);
  const at::Tensor second =
      inputs.compressed.narrow(0, 0, in).narrow(1, 0, in).to(at::kDouble);
  const double mean = second.diagonal().mean().item<double>();
  at::Tensor scores = at::zeros({units}, at::kDouble);
  // Inputs that are all zero are worth nothing.
  if (!(mean > 0)) return scores.to(weight.device(), at::kFloat);
  const at::Tensor damped =
      second + at::eye(in, second.options()) * (ridge * mean);
  at::Tensor inverse =
      solve_spd(damped, at::eye(in, second.options())).contiguous();
  // Where the best V without a cut stands; the original W, but for drift.
  const at::Tensor cross = inputs.cross().narrow(1, 0, in).to(at::kDouble);
  at::Tensor target = at::mm(wide, cross.narrow(0, 0, in));
  if (cross.size(0) > in)
    target = target + cross.narrow(0, in, cross.size(0) - in);
  at::Tensor v = at::mm(target + wide * (ridge * mean), inverse);
  at::Tensor sv = weighed(outputs, v);
  at::Tensor gone = at::zeros({units}, second.options().dtype(at::kBool));
  const at::Tensor within = at::arange(size, gone.options().dtype(at::kLong));
  const std::int64_t at_once = std::max<std::int64_t>(1, units / kRounds);
  double highest = 0;
  for (std::int64_t left = units; left > 0;) {
    check_interrupted();
    at::Tensor costs;
    if (size == 1) {
      costs = (v * sv).sum(0) / inverse.diagonal().clamp_min(1e-300);
    } else {
      // tr(V_u' S V_u (inverse_uu)^-1), all units in one batch.
      const at::Tensor energy =
          at::matmul(v.view({-1, units, size}).permute({1, 2, 0}),
                     sv.view({-1, units, size}).permute({1, 0, 2}));
      const at::Tensor own = inverse.view({units, size, units, size})
                                 .diagonal(0, 0, 2)
                                 .permute({2, 0, 1});
      // A unit that is gone has zeros there.
      const at::Tensor filled =
          own + at::eye(size, own.options()) *
                    gone.to(own.scalar_type()).view({-1, 1, 1});
      costs = at::linalg_solve(filled, energy).diagonal(0, 1, 2).sum(-1);
    }
    costs = costs.clamp_min(0).masked_fill(gone, kGone);
    const bool last = left <= std::max<std::int64_t>(fewest, 1);
    const std::int64_t count = last ? left : std::min(at_once, left - fewest);
    const auto [cost, chosen] =
        costs.topk(count, 0, /*largest=*/false, /*sorted=*/true);
    const at::Tensor cpu = cost.cpu(), which = chosen.cpu();
    for (std::int64_t i = 0; i < count; ++i) {
      // Strictly rising, so that the order can be read from the scores.
      highest = std::max(highest * (1 + 1e-6) + 1e-30, cpu[i].item<double>());
      scores[which[i].item<std::int64_t>()] = highest;
    }
    left -= count;
    if (last) break;
    gone.index_fill_(0, chosen, true);
    const at::Tensor columns = (chosen.unsqueeze(1) * size + within).flatten();
    const at::Tensor across = inverse.index_select(0, columns);
    const at::Tensor step =
        solve_spd(across.index_select(1, columns), across);  // [n, in]
    v = v - at::mm(v.index_select(1, columns), step);
    sv = sv - at::mm(sv.index_select(1, columns), step);
    inverse = inverse - at::mm(across.t(), step);
  }
  return scores.to(weight.device(), at::kFloat);
}

}  // namespace autoglm
