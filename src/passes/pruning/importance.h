// How much the units of a block matter: query heads, and channels of its MLP or
// of each expert. A unit is made by rows of some matrices and read by columns
// of one, its reader: attention.output or down.
//
//   l1, l2       norms of all its weights
//   norm_gain    l2 with every row times the gain of the norm it reads
//                through, and the columns times that of a norm after the part:
//                what the scale of a batch norm says of a channel in network
//                slimming (arXiv 1708.06519), for norms that stand before
//   activation   |W[:, j]| rms(z_j) over the reader's columns j (Wanda-sp,
//   arXiv
//                2306.11695); a head: the root of the sum of squares
//   fluctuation  |W[:, j]|^2 var(z_j) (FLAP, arXiv 2312.11983)
//   taylor, fisher  of the loss (unit_gradients.h)
//   obs          what the best repair cannot make up for (obs.h)
//   random       the floor for all of them
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "autoglm/model/model.h"
#include "passes/layer_moments.h"
#include "passes/output_fisher.h"

namespace autoglm {

enum class Importance {
  kL1,
  kL2,
  kNormGain,
  kActivation,
  kFluctuation,
  kTaylor,
  kFisher,
  kObs,
  kRandom,
};

/// "l1", "norm_gain", ...
Importance importance_named(const std::string& name);
/// By moments of what the reader receives.
bool needs_moments(Importance importance);
/// By gradients through the whole model.
bool needs_gradients(Importance importance);
/// The same without calibration data: l1 for those that need some.
Importance without_data(Importance importance);

/// What scores follow from, beside the weights.
struct Evidence {
  const Moments* inputs = nullptr;  // of the reader; where needs_moments()
  at::Tensor gradients;             // [units]; where needs_gradients()
  const OutputMetric* outputs = nullptr;  // of the reader; obs, optional
  std::int64_t fewest = 1;                // units that obs need not tell apart
  std::uint64_t seed = 0;                 // random
};

/// Of the query heads, fp32 [N].
at::Tensor head_scores(const Architecture& architecture, const Block& block,
                       Importance importance, const Evidence& evidence);

/// Of the channels of `mlp`, one of `block`, fp32 [F].
at::Tensor channel_scores(const Block& block, const Mlp& mlp,
                          Importance importance, const Evidence& evidence);

/// Indices of the `count` largest of `scores` [n], ascending; of equals the
/// first ones.
at::Tensor largest(const at::Tensor& scores, std::int64_t count);

}  // namespace autoglm
