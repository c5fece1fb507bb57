// Products of int8 by int8 through libtorch, for many vectors at once.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/model/weight.h"
#include "model/rounded_vectors.h"

namespace autoglm {

/// True where activations are rounded and libtorch multiplies int8 by int8, and
/// not in a plain loop.
bool has_int8_product(const QuantizedWeight& weight, std::int64_t rows);

/// fp32 [..., out]: products and sums of whole numbers, exact; then the steps
/// and scales. has_int8_product must hold.
at::Tensor int8_product(const RoundedVectors& x, const QuantizedWeight& weight);

}  // namespace autoglm
