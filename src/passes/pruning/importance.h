// How much a head or a channel matters. With activations, |W[:, j]| * rms(x_j)
// over the columns j of the matrix that reads it, as in Wanda-sp (arXiv
// 2306.11695), of a head the sum of squares over its columns; without, the
// absolute sum of all its weights (l1).
#pragma once

#include <ATen/ATen.h>

#include "autoglm/model/model.h"
#include "passes/layer_moments.h"

namespace autoglm {

/// Scores of the query heads, fp32 [N]. `inputs`: moments of what
/// attention.output receives; null: l1.
at::Tensor head_scores(const Architecture& architecture, const Block& block,
                       const Moments* inputs);

/// Scores of the channels of an MLP, fp32 [F]. `inputs`: moments of what down
/// receives; null: l1.
at::Tensor channel_scores(const Mlp& mlp, const Moments* inputs);

/// Indices of the `count` largest of `scores` [n], ascending; of equals the
/// first ones.
at::Tensor largest(const at::Tensor& scores, std::int64_t count);

}  // namespace autoglm
