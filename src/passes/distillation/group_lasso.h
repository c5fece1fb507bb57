// Group lasso over units: the penalty
//   lambda * sum over units u of sqrt(|u|) r ||W_u||_2
// where W_u are all weights of a unit, |u| is their number (Yuan and Lin, J. R.
// Stat. Soc. B 68, 2006, equation 2.1), and r, ours, is the root mean square
// of the weights of the unit's part before training, so that one lambda fits
// layers and models of any scale. It is applied by its proximal operator after
// each step of the optimizer (Parikh and Boyd, Proximal Algorithms, section
// 6.5.1; after AdamW as weight decay is, uncoupled from its second moments),
// which takes a unit that nothing defends exactly to 0, as a subgradient
// does not.
#pragma once

#include <ATen/ATen.h>

#include "passes/distillation/unit_parts.h"

namespace autoglm {

/// ||W_u||_2 of each unit, fp32 [units].
at::Tensor unit_norms(const Block& block, const UnitPart& part);

/// Multiplies the slices of every unit, in place, by factors [units] fp32.
void scale_slices(at::Tensor& tensor, const UnitSlices& slices,
                  const at::Tensor& factors);
void scale_units(Block& block, const UnitPart& part, const at::Tensor& factors);

/// The proximal operator's factor: max(0, 1 - threshold / norm), 1 for a norm
/// of 0.
at::Tensor soft_threshold(const at::Tensor& norms, double threshold);

}  // namespace autoglm
