// What the loss says about heads and channels: the derivative by a factor in
// front of a unit's output, which is the sum of w * dL/dw over the columns that
// read it. (The sum over its rows of up is the same number.) Absolute values
// per window, averaged, are the first-order Taylor score (arXiv 1611.06440,
// 1906.10771; group-wise, since element-wise sums of |w g| do worse than chance
// on a GLM, arXiv 2305.11627, table of ChatGLM); squares, with labels drawn
// from the model's predictions, the Fisher score (arXiv 2204.09656).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

enum class GradientScore { kTaylor, kFisher };

/// Of the units that one matrix reads, by its name below the block:
/// "attention.output" [N], "mlp.down" [F], "mlp.experts.3.down" [F],
/// "mlp.shared.down"; and of a routed expert as a whole, "mlp.experts.3" [].
using UnitGradients = std::map<std::string, at::Tensor>;

/// One entry per block, fp32, means over windows [windows, T] with `prefix`
/// tokens before each text. `wanted` says for which matrices, by canonical
/// name. Dense matrices only. One pass backward for each window; gradients of
/// one block's matrices are alive at a time. An expert that no token was sent
/// to has none. Throws kNumeric where gradients are not finite.
std::vector<UnitGradients> unit_gradients(
    const Model& model, const at::Tensor& windows, std::int64_t prefix,
    GradientScore score, std::uint64_t seed,
    const std::function<bool(const std::string&)>& wanted);

}  // namespace autoglm
