// Masks over units in training. A unit is masked by a gate of 0 before the
// columns that read it, so its weights stay, get no gradient, and may come
// back; the gate's own gradient says what switching it would do.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "autoglm/model/model.h"
#include "passes/distillation/unit_parts.h"

namespace autoglm {

/// gates: fp32 [units] per part, with a gradient or without. Everything else is
/// shared with `model`, whose readers are dense.
Model masked_model(const Model& model, const std::vector<UnitPart>& parts,
                   const std::vector<at::Tensor>& gates);

/// `model` without the units whose mask (bool [units] per part) is false: the
/// same function as masked_model().
Model cut_model(Model model, const std::vector<UnitPart>& parts,
                const std::vector<at::Tensor>& masks);

struct MaskChange {
  at::Tensor mask;  // bool [units], CPU
  std::int64_t regrown = 0;
};

/// The mask after `mask` with exactly `kept` units, as many in each set: at
/// most `share` of the masked ones, and no more than half of those that stay,
/// come back, best `growth` above 0 first; of those that were there the most
/// important fill the rest. mask: bool; importance, growth: [units], any
/// floating dtype, CPU; kept: a multiple of sets, at most what is on. Of equals
/// the first stays.
MaskChange next_mask(const UnitPart& part, const at::Tensor& mask,
                     const at::Tensor& importance, const at::Tensor& growth,
                     std::int64_t kept, double share);

/// What masking loses, by the number of units that stay, from all of `mask`
/// (entry [on]) down to `sets` of them: sums of the least `importance` of every
/// set. Entries that do not occur are 0. CPU tensors.
std::vector<double> masking_losses(const UnitPart& part, const at::Tensor& mask,
                                   const at::Tensor& importance);

}  // namespace autoglm
