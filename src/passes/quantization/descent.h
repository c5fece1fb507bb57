// Coordinate descent on a layer's squared error over codes and scales, given
// second moments of its inputs (passes/layer_moments.h):
//
//   tr(S (V - W) Szz (V - W)') + what follows from the drift between streams
//
// with S = 1, each output for itself, or a metric over the outputs
// (passes/output_fisher.h), with which the errors of several rows make up for
// each other. The loss never rises.
#pragma once

#include <ATen/ATen.h>

#include "passes/quantization/quantizer.h"

namespace autoglm {

/// One sweep over the codes: each code in turn moves to its best value with all
/// others held. `moments`: Szz [in, in]; `gradient`: half the gradient at
/// `rounded` [out, in] but for S before it, kept up to date; `outputs`: S [out,
/// out], symmetric with a positive diagonal, or undefined. True if any code
/// changed.
bool descend_codes(Rounded& rounded, const Grid& grid,
                   const at::Tensor& moments, at::Tensor& gradient,
                   const at::Tensor& outputs = {});

/// The same over the scales, group by group, in their storage type; a scale is
/// tried together with codes that descend from those of now. True if any scale
/// changed.
bool descend_scales(Rounded& rounded, const Grid& grid,
                    const at::Tensor& moments, at::Tensor& gradient,
                    const at::Tensor& outputs = {});

}  // namespace autoglm
