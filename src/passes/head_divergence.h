// How far a model's predictions are from another's, from what their heads
// receive.
#pragma once

#include <ATen/ATen.h>

#include "autoglm/model/model.h"

namespace autoglm {

/// T^2 KL( softmax(original / T) || softmax(student / T) ), mean over
/// positions, in nats. `taught`, `states`: the residual stream after the last
/// block of either model [n, H]. Where `states` asks for a gradient, the
/// divergence's is added to its grad(), and to those of the student's head and
/// final norm where they ask. Logits are made for few positions at a time: 32 M
/// elements, whatever the vocabulary.
double head_divergence(const Model& original, const at::Tensor& taught,
                       const Model& student, const at::Tensor& states,
                       double temperature = 1);

}  // namespace autoglm
