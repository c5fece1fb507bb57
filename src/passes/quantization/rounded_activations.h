// What the matrices of a block multiply is rounded too: to int8 before int8
// codes, to e4m3 before e4m3 (model/weight.h, ActivationScheme).
#pragma once

#include <functional>
#include <string>

#include "autoglm/model/walk.h"

namespace autoglm {

/// "none", "dynamic" or "static" for a matrix, by its name below the block.
using ActivationChoice = std::function<std::string(const std::string&)>;

/// The step of a static activation before `weight`: `most`, the greatest size
/// of its input, per greatest number, [1].
at::Tensor static_step(const at::Tensor& most, const Weight& weight);

/// `block` with the activations asked for. The step of a static one is the
/// greatest size of its input over the compressed stream of the calibration
/// data, per greatest number.
Block with_rounded_activations(const Model& model, const BlockVisit& visit,
                               const Block& block,
                               const ActivationChoice& choice);

/// The same for dynamic ones, which need no data.
Block with_dynamic_activations(const Block& block,
                               const ActivationChoice& choice);

}  // namespace autoglm
