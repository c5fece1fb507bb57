// Coordinate descent on a layer's squared error over codes and scales, given
// second moments of its inputs (passes/layer_moments.h). The loss never rises.
#pragma once

#include <ATen/ATen.h>

#include "passes/quantization/quantizer.h"

namespace autoglm {

/// One sweep over the codes: each column in turn moves to its best codes with
/// all others held. `moments`: Szz [in, in]; `gradient`: half the gradient at
/// `rounded` [out, in], kept up to date. True if any code changed.
bool descend_codes(Rounded& rounded, const Grid& grid,
                   const at::Tensor& moments, at::Tensor& gradient);

/// The same over the scales, group by group, in their storage type.
bool descend_scales(Rounded& rounded, const Grid& grid,
                    const at::Tensor& moments, at::Tensor& gradient);

}  // namespace autoglm
