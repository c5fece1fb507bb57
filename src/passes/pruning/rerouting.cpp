#include "passes/pruning/rerouting.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>

#include "autoglm/core/interrupt.h"
#include "autoglm/model/mlp.h"

namespace autoglm {

at::Tensor rerouting_scores(const Architecture& a, const Mixture& mixture,
                            const at::Tensor& x, std::int64_t left) {
  const at::NoGradGuard no_grad;
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  Mixture routed = mixture;
  routed.shared = {};  // adds the same to all outputs
  routed.correction_bias = mixture.correction_bias.to(at::kFloat);
  const auto without = [&](std::int64_t e) {
    Mixture out = routed;
    out.correction_bias = routed.correction_bias.clone();
    out.correction_bias[e] = kNever;
    return out;
  };
  const auto count = static_cast<std::int64_t>(mixture.experts.size());
  const std::int64_t size = count / a.router.groups;
  std::vector<std::int64_t> may_go(static_cast<std::size_t>(a.router.groups),
                                   (count - left) / a.router.groups);
  std::vector<double> scores(mixture.experts.size(), -1);
  const at::Tensor wanted = mixture_forward(a, routed, x);
  const at::Tensor now = wanted.clone();
  double highest = 0;
  const auto error = [&](const at::Tensor& y, const at::Tensor& target) {
    return (y - target).square().sum(at::kDouble).item<double>();
  };
  for (std::int64_t step = 0; step < count - left; ++step) {
    check_interrupted();
    const auto tokens =
        tokens_by_expert(route(a.router, routed, x), mixture.experts.size());
    double best_cost = std::numeric_limits<double>::infinity();
    std::int64_t best = -1;
    at::Tensor changed;  // outputs of its tokens without the best
    for (std::int64_t e = 0; e < count; ++e) {
      const auto index = static_cast<std::size_t>(e);
      if (scores[index] >= 0 || may_go[static_cast<std::size_t>(e / size)] == 0)
        continue;
      const at::Tensor& mine = tokens[index].tokens;
      at::Tensor y;
      double cost = 0;
      if (mine.size(0) > 0) {
        const at::Tensor target = wanted.index_select(0, mine);
        y = mixture_forward(a, without(e), x.index_select(0, mine));
        cost = error(y, target) - error(now.index_select(0, mine), target);
      }
      if (cost >= best_cost) continue;
      best_cost = cost;
      best = e;
      changed = y;
    }
    const auto index = static_cast<std::size_t>(best);
    const at::Tensor& mine = tokens[index].tokens;
    if (mine.size(0) > 0) now.index_copy_(0, mine, changed);
    routed = without(best);
    --may_go[static_cast<std::size_t>(best / size)];
    // Strictly rising, so that the order can be read from the scores.
    highest = std::max(highest * (1 + 1e-6) + 1e-30, best_cost);
    scores[index] = highest;
  }
  for (double& score : scores)
    if (score < 0) score = 2 * highest + 1;
  return at::tensor(scores, at::kDouble).to(at::kFloat);
}

}  // namespace autoglm
