// How far a changed block's output on the compressed stream is from what the
// original block makes of the original stream.
#pragma once

#include <cstddef>
#include <vector>

#include "autoglm/model/walk.h"
#include "passes/output_fisher.h"

namespace autoglm {

class BlockLoss {
 public:
  /// With the block's Fisher information, by what the error costs the
  /// predictions; without (empty), as the mean over tokens of the squared error
  /// per energy of the target: norms look at a token's direction alone, and a
  /// few tokens have a hundred times the energy of all others.
  BlockLoss(const Model& model, const BlockVisit& visit,
            const BlockFisher& fisher);

  /// Of one batch, a scalar; differentiable in the block. With Fisher
  /// information relative to that of what the original block adds to its input.
  at::Tensor batch(const Block& block, std::size_t index) const;

  /// Mean over batches [first, last).
  double mean(const Block& block, std::size_t first, std::size_t last) const;

 private:
  /// Sum of errors [B, T, H] in the metric.
  at::Tensor measure(const at::Tensor& error, const at::Tensor& weights) const;

  const Model& model_;
  const BlockVisit& visit_;
  const OutputMetric& metric_;
  std::vector<at::Tensor> weights_;  // of the tokens, by batch [B, T]
  double energy_ = 1;                // per token
};

}  // namespace autoglm
