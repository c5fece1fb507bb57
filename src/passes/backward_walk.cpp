#include "passes/backward_walk.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/interrupt.h"

namespace autoglm {

BackwardWalk::BackwardWalk(const Model& model, const at::Tensor& ids,
                           const std::function<Block(std::size_t)>& block) {
  const at::NoGradGuard no_grad;
  AttentionContext context = attention_context(model, ids);
  at::Tensor x = embed(model, model.embedding, ids, context, at::kFloat);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    check_interrupted();
    // The context as the block finds it: indexers leave something in it.
    inputs_.emplace_back(x, context);
    x = block_forward(model, block(i), static_cast<std::int64_t>(i), x,
                      context);
  }
  output_ = x;
}

void BackwardWalk::backward(at::Tensor gradient, const Visit& visit) {
  for (std::size_t i = inputs_.size(); i-- > 0;) {
    check_interrupted();
    auto& [input, context] = inputs_[i];
    const at::Tensor leaf = input.detach().requires_grad_(i > 0);
    visit(i, leaf, context, gradient);
    if (i > 0) gradient = leaf.grad();
    input = at::Tensor();
  }
}

}  // namespace autoglm
