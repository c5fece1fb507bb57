// The scale folds (model/scale_folds.h) that a block is quantized with, site by
// site:
//
//   awq          s = mean |x|^a
//   smoothquant  s = max |x|^a / max |w|^(1 - a)
//
// of each input x over the calibration data and its column w over the matrices
// that are quantized; a product sqrt(least * greatest) of 1 keeps norm gains
// where they are. Everything keeps the dtype it has: matrices are quantized
// from their scaled values in fp32, columns make up for the rounding of gains.
// Where a router, an indexer or a matrix that stays in floating point is scaled
// too, s is rounded to powers of two, which change those without an error.
//
// For the exponent a some of the fitting windows decide, for the fold at all
// the held-out ones: by what the block returns with every matrix rounded to the
// nearest on its grid, activations, keys and values too where that is asked
// for. A fold that does not lower this loss is left out.
#pragma once

#include "autoglm/core/json.h"
#include "autoglm/model/walk.h"
#include "passes/quantization/rounder.h"

namespace autoglm {

/// What takes the place of the original block and of its Fisher information:
/// the same function, with the outputs of some matrices in other units.
/// Matrices that are quantized may be fp32.
struct FoldedBlock {
  Block block;
  BlockFisher fisher;
};

/// From 2^-8 to 2^8 (fp16 holds gains divided by more badly).
/// inputs, columns: [channels] fp32, not negative; columns undefined: without
/// them. exponent: above 0, at most 1.
at::Tensor fold_scales(const at::Tensor& inputs, const at::Tensor& columns,
                       double exponent);

/// `options.folds` is not "none". `notes`, a list, gets one entry per site:
/// layer, site, kept, exponent, loss_without and loss (held out).
FoldedBlock choose_folds(const Model& model, const BlockVisit& visit,
                         const Rounder& rounder, const BlockFisher& fisher,
                         const QuantizationOptions& options, Json& notes);

}  // namespace autoglm
