// Gradients through a whole model with one block's graph alive at a time: on
// the way forward the input of every block is kept, on the way back each block
// runs once more (gradient checkpointing, arXiv 1604.06174).
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "autoglm/model/forward.h"

namespace autoglm {

class BackwardWalk {
 public:
  /// Embeds ids [B, T] on the model's device and runs the blocks, each as
  /// `block` gives it (autograd is off meanwhile).
  BackwardWalk(const Model& model, const at::Tensor& ids,
               const std::function<Block(std::size_t)>& block);

  /// The residual stream after the last block, [B, T, H] fp32.
  const at::Tensor& output() const { return output_; }

  /// Visits the blocks from last to first. `visit` runs block `layer` on
  /// `input` and goes backward from its output with `gradient` [B, T, H];
  /// `input` is a leaf that wants its gradient, but for the first block.
  using Visit = std::function<void(std::size_t layer, const at::Tensor& input,
                                   AttentionContext& context,
                                   const at::Tensor& gradient)>;
  void backward(at::Tensor gradient, const Visit& visit);

 private:
  std::vector<std::pair<at::Tensor, AttentionContext>> inputs_;
  at::Tensor output_;
};

}  // namespace autoglm
