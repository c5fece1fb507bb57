// A narrower residual stream: one decision for the whole model. Columns of what
// reads the stream go, rows of what writes it, columns of the embedding and the
// head, entries of norms; heads, their rotary dims and FFN channels stay.
//
// A norm divides by the mean over the channels that are left, which is another
// number: its gain is multiplied by the one factor with which it most nearly
// gives what it gave for them (least squares; sqrt(H / H') where the channels
// that went were 0). Then, block by block, on what the blocks before have
// become:
//   - matrices that read the stream are fitted to what they gave with all
//     channels, so that those that stay also speak for those that went
//     (hidden_fit.h);
//   - attention.output and down are fitted so that the stream keeps, in the
//     channels that stay, what it was: they make up for its drift (repair.h).
// Routers and indexers are read-only matrices here and fitted like others. A
// head that is the embedding keeps its matrix; the final gains are fitted.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/passes/pass.h"
#include "passes/pruning/prune_block.h"

namespace autoglm {

/// Throws kConfig for a matrix of `model` that is not dense.
void check_hidden_dense(const Model& model);

/// `model`, on the device to work on, with `left` channels. Without calibration
/// data gains follow from how large the weights make the channels, and nothing
/// is fitted. `note` gets "width", "removed" (channels, ascending), and with
/// data "layers": relative errors on held-out tokens as cut and as fitted, of
/// what reads the stream (means over matrices) and of what writes it, and
/// "head_error_cut", "head_error".
Model narrow_stream(const Model& model, const PassContext& context,
                    const PruningMethod& method, std::int64_t left, Json& note);

}  // namespace autoglm
