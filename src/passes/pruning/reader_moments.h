// Moments of what attention.output or down receives, for importance and repair
// of a part that loses heads or channels.
#pragma once

#include <ATen/ATen.h>

#include "autoglm/model/walk.h"
#include "passes/layer_moments.h"
#include "passes/pruning/pruning_target.h"

namespace autoglm {

/// `working`: the block as compressed so far. `tokens` [windows, T]: weights;
/// undefined: 1 each, or, where a norm stands behind the part and takes away
/// the size of every token's output, one over the energy of that output.
///
/// Where the part is added to the residual stream as it is, the moments have H
/// more inputs: by how much the stream drifted before, in the original model,
/// and 0 in the compressed one. To give back W X + drift, not W X, is then the
/// aim of a fit: it mends what earlier blocks did to the stream. On the example
/// at 30 % of the channels that takes an eighth off the divergence. The shared
/// expert of a mixture also mends what the routed ones do differently.
///
/// `kept` [n]: the channels of the original stream that the compressed one has;
/// undefined: all. `model` is the compressed one then.
SplitMoments reader_moments(const Model& model, const BlockVisit& visit,
                            const Block& working, Part part,
                            const at::Tensor& tokens,
                            const at::Tensor& kept = {});

}  // namespace autoglm
