// Is every number of a tensor finite?
#pragma once

#include <ATen/ATen.h>

namespace autoglm {

/// Reads each value once, on all threads; dense CPU tensors without a copy.
bool all_finite(const at::Tensor& tensor);

}  // namespace autoglm
