#include "passes/quantization/block_loss.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/interrupt.h"

namespace autoglm {

BlockLoss::BlockLoss(const Model& model, const BlockVisit& visit,
                     const BlockFisher& fisher)
    : model_(model), visit_(visit), metric_(fisher.block_output) {
  if (metric_.empty()) return;
  const at::NoGradGuard no_grad;
  double energy = 0, tokens = 0;
  std::int64_t window = 0;
  for (std::size_t i = 0; i < visit.original_output.size(); ++i) {
    const at::Tensor& target = visit.original_output[i];
    weights_.push_back(fisher.block_tokens.narrow(0, window, target.size(0)));
    window += target.size(0);
    energy += measure(target - visit.original_input[i], weights_.back())
                  .item<double>();
    tokens += static_cast<double>(weights_.back().numel());
  }
  if (energy > 0) energy_ = energy / tokens;
}

at::Tensor BlockLoss::measure(const at::Tensor& error,
                              const at::Tensor& weights) const {
  at::Tensor sum;  // by token
  std::int64_t at = 0;
  for (const at::Tensor& part : metric_) {
    const at::Tensor own = error.narrow(-1, at, part.size(0));
    const at::Tensor cost = (at::matmul(own, part) * own).sum(-1);
    sum = sum.defined() ? sum + cost : cost;
    at += part.size(0);
  }
  return (sum * weights).sum();
}

at::Tensor BlockLoss::batch(const Block& block, std::size_t index) const {
  AttentionContext context = visit_.compressed_contexts[index];
  const at::Tensor out = block_forward(model_, block, visit_.layer,
                                       visit_.compressed_input[index], context);
  const at::Tensor& target = visit_.original_output[index];
  if (!metric_.empty()) {
    const at::Tensor& weights = weights_[index];
    return measure(out - target, weights) /
           (energy_ * static_cast<double>(weights.numel()));
  }
  const at::Tensor energy = target.square().mean(-1, /*keepdim=*/true) + 1e-12;
  return ((out - target).square() / energy).mean();
}

double BlockLoss::mean(const Block& block, std::size_t first,
                       std::size_t last) const {
  const at::NoGradGuard no_grad;
  double sum = 0, tokens = 0;
  for (std::size_t i = first; i < last; ++i) {
    check_interrupted();
    const auto n = static_cast<double>(visit_.original_output[i].numel());
    sum += batch(block, i).item<double>() * n;
    tokens += n;
  }
  return sum / tokens;
}

}  // namespace autoglm
