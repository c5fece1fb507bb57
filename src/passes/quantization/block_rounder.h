// Quantizes one block of the walk: site after site, each matrix by its scheme
// on inputs from the block as rounded so far; then what learns by block learns.
#pragma once

#include "autoglm/core/json.h"
#include "autoglm/model/walk.h"
#include "passes/quantization/rounder.h"

namespace autoglm {

/// `note` gets the block's facts (losses, greatest activation, tokens of its
/// experts). `seed` orders the calibration batches.
Block round_block(const Model& model, const BlockVisit& visit, Rounder& rounder,
                  const BlockFisher& fisher, const QuantizationOptions& options,
                  std::uint64_t seed, Json& note);

}  // namespace autoglm
