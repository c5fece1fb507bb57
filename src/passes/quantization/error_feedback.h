// Rounding with error feedback (GPTQ, arXiv 2210.17323): column by column, the
// rounding error of one is put into the columns not yet rounded, in the
// proportion that costs the layer's output least. Columns go in the order of
// falling input energy; the grids are fixed before ("act-order with static
// groups"), so that groups stay contiguous.
#pragma once

#include <ATen/ATen.h>

#include "passes/quantization/quantizer.h"

namespace autoglm {

/// What all rows of a matrix share.
struct Feedback {
  at::Tensor order;    // [in] int64: column of the matrix at each turn
  at::Tensor factor;   // [in, in] fp32, upper: row k holds how the error of
                       // turn k spreads over the later turns
  double damping = 0;  // share of the mean diagonal that was added
};

/// `moments` [in, in]: sums of z z' over the calibration tokens. An input that
/// is never anything but zero gets the mean energy, which leaves its column to
/// nearest rounding. Starts with 1 % damping and takes ten times as much until
/// the factorization succeeds. Throws kNumeric for NaN or infinity.
Feedback make_feedback(const at::Tensor& moments);

/// Codes of `weight` fp32 [out, in] on the grid of `fit`, with positions: the
/// weights as corrected just before they were rounded.
Rounded round_with_feedback(const at::Tensor& weight, const GridFit& fit,
                            const Grid& grid, const Feedback& feedback);

}  // namespace autoglm
