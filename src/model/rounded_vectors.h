// Activations rounded to 8 bits, as an ActivationScheme says.
#pragma once

#include <ATen/ATen.h>

#include "autoglm/model/weight.h"

namespace autoglm {

/// Vectors as whole numbers, or as e4m3 numbers, times their steps.
struct RoundedVectors {
  at::Tensor values;  // [..., in] fp32, or int8 for whole numbers
  at::Tensor steps;   // fp32 [..., 1], or [1]
};

/// x [..., in] to whole numbers from -127 to 127, or to e4m3. Rounding has no
/// slope: gradients pass straight through it (Bengio et al. 2013,
/// arXiv:1308.3432).
RoundedVectors round_vectors(const at::Tensor& x,
                             const ActivationScheme& scheme, bool float8);

}  // namespace autoglm
