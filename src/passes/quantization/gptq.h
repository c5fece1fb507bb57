// GPTQ (arXiv 2210.17323): rounding with error feedback. Columns go in the
// order of falling input energy; the grids are fixed before ("act-order with
// static groups"), so that groups stay contiguous.
#pragma once

#include <ATen/ATen.h>

#include "passes/error_feedback.h"
#include "passes/quantization/quantizer.h"

namespace autoglm {

/// Codes of `weight` fp32 [out, in] on the grid of `fit`, with positions: the
/// weights as corrected just before they were rounded.
Rounded round_with_feedback(const at::Tensor& weight, const GridFit& fit,
                            const Grid& grid, const Feedback& feedback);

}  // namespace autoglm
