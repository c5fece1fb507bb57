// Products of interleaved weights with activations in whole numbers.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "autoglm/kernels/integer_linear.h"
#include "autoglm/model/weight.h"

namespace autoglm {

/// Points into the weight's tensors.
kernels::InterleavedMatrix interleaved_view(const QuantizedWeight& weight);

/// Rows of the matrix by their numbers, ids int64 [n] -> [n, in].
at::Tensor interleaved_rows(const QuantizedWeight& weight,
                            const at::Tensor& ids, at::ScalarType dtype);

/// True if x rounded for one of them is x rounded for the other.
bool round_alike(const QuantizedWeight& a, const QuantizedWeight& b);

/// x [..., in] times each of the interleaved weights, which round alike:
/// [..., out] each, in x's dtype. x is rounded once, by the steps of the
/// weights' ActivationScheme or, where they have none, of its own spans.
std::vector<at::Tensor> integer_products(
    const at::Tensor& x, const std::vector<const QuantizedWeight*>& weights);

}  // namespace autoglm
