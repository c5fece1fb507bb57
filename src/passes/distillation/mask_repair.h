// Repair of the matrices that read units, when masks change.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "passes/distillation/unit_masks.h"

namespace autoglm {

/// Block by block, fits the columns of every reader whose mask differs between
/// `before` and `after` (bool [units] per part) to what the part gave with the
/// masks before (repair_columns(); least squares, on inputs from blocks that
/// are repaired already), and writes them into the student's tensors, in place.
/// A unit that comes back begins with what the fit gives it. windows: int64
/// [windows, T] on the student's device, 8 at least, of which an eighth judges.
/// Memory: the activations of one border, moments of one part.
void repair_readers(const Model& student, const std::vector<UnitPart>& parts,
                    const std::vector<at::Tensor>& before,
                    const std::vector<at::Tensor>& after,
                    const at::Tensor& windows);

}  // namespace autoglm
