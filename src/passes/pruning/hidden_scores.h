// How much each channel of the residual stream matters, to the model as a
// whole.
//
//   l1, l2, norm_gain  norms of all weights that read or write it, each matrix
//                per its own norm, norm_gain with the gain of the norm between
//   activation   |W[:, j]| rms(n_j), n what the norms give and W what reads it
//                there; root of the sum of squares over all norms, each per its
//                own sum over j. (Minitron, arXiv 2407.14679, takes the mean of
//                |n_j| alone.)
//   fluctuation  the squares with var(n_j)
//   taylor, fisher  of the loss, by a factor in front of the channel at every
//                border of blocks, sums over the borders
//   obs          what the best linear guess from the channels that stay cannot
//                make up for (obs.h), errors of all norms pooled
//   random       the floor
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/model/model.h"
#include "passes/pruning/importance.h"

namespace autoglm {

/// fp32 [H] on the model's device. windows: [windows, T] int64 there, with
/// `prefix` tokens before each text; undefined: no data, which the importance
/// must not need. `left`: channels that are to stay. One pass over the data,
/// forward or, for gradients, backward. Throws kNumeric where gradients are not
/// finite.
at::Tensor hidden_scores(const Model& model, const at::Tensor& windows,
                         std::int64_t prefix, Importance importance,
                         std::int64_t left, std::uint64_t seed);

}  // namespace autoglm
