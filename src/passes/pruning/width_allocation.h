// Widths that differ between layers: each part of each block gets the one with
// which all of them together do the least damage within a number of parameters
// (allocation.h, exact). What a width damages is either the sum of the scores
// that go, or measured: the divergence of the predictions with that part alone
// cut and repaired.
#pragma once

#include <vector>

#include "autoglm/passes/pass.h"
#include "passes/pruning/options.h"

namespace autoglm {

/// Scores: for `allocation: global` and for thresholds. `targets`: uniform
/// ones, which say what may be cut and how many parameters stay. Scores of the
/// loss (taylor, fisher) are compared between layers as they are, others per
/// mean of their layer and part. Walks once over the calibration data; `model`
/// is on the device to work on. Notes "allocation": per block and part the
/// widths with their parameters and damages, and the one chosen.
std::vector<PruningTarget> allocate_widths(
    const Model& model, PassContext& context, const PruningOptions& options,
    const PruningMethod& method, const std::vector<BlockEvidence>& evidence,
    const std::vector<PruningTarget>& uniform);

}  // namespace autoglm
