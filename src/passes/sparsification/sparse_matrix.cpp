#include "passes/sparsification/sparse_matrix.h"

#include <algorithm>

#include "passes/error_feedback.h"

namespace autoglm {

at::Tensor sparsify_by_magnitude(const at::Tensor& weight,
                                 const SparsityPattern& pattern) {
  return weight.masked_fill(
      removal_mask(weight.square(), pattern, Among::kMatrix), 0);
}

at::Tensor sparsify_by_wanda(const at::Tensor& weight,
                             const at::Tensor& moments,
                             const SparsityPattern& pattern) {
  // Squared, which keeps the order and lets a tile's sum be an error.
  return weight.masked_fill(
      removal_mask(weight.square() * moments.diagonal(), pattern, Among::kRow),
      0);
}

at::Tensor sparsify_by_sparsegpt(const at::Tensor& weight,
                                 const at::Tensor& moments,
                                 const SparsityPattern& pattern) {
  constexpr std::int64_t kBlock = 128;  // as in the paper
  const bool groups = pattern.kind == SparsityPattern::Kind::kNOfM;
  const std::int64_t in = weight.size(1);
  const std::int64_t block =
      std::max(pattern.columns, kBlock / pattern.columns * pattern.columns);
  const std::int64_t step = groups ? pattern.columns : block;
  const Feedback feedback = make_feedback(moments, Turns::kAsTheyStand);
  // What a weight of column k costs is w^2 times this.
  const at::Tensor cost = (moments.diagonal() > 0).to(at::kFloat) /
                          feedback.factor.diagonal().square();
  // Inputs of little energy lose more than others, so every 128 columns lose
  // what they would if all were chosen at once.
  const at::Tensor at_once =
      groups ? at::Tensor()
             : removal_mask(weight.square() * cost, pattern, Among::kMatrix);
  at::Tensor rest = weight.t().contiguous();
  at::Tensor mask = at::zeros_like(rest, at::kBool);
  const auto choose = [&](std::int64_t k) {
    const std::int64_t count = std::min(step, in - k);
    const at::Tensor scores =
        rest.narrow(0, k, count).t().square() * cost.narrow(0, k, count);
    const at::Tensor chosen =
        groups ? removal_mask(scores, pattern, Among::kRow)
               : removal_mask(
                     scores, pattern,
                     at_once.narrow(1, k, count).sum().item<std::int64_t>() /
                         (pattern.rows * pattern.columns));
    mask.narrow(0, k, count).copy_(chosen.t());
  };
  feed_back(rest, feedback, block, [&](std::int64_t k, at::Tensor& error) {
    if (k % step == 0) choose(k);
    at::mul_out(error, rest[k], mask[k]);
  });
  return rest.masked_fill(mask, 0).t().contiguous();
}

}  // namespace autoglm
