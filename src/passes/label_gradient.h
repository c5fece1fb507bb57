// Gradients of -log p(label), from the logits down to what the head receives.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/core/rng.h"
#include "autoglm/model/model.h"

namespace autoglm {

/// The sum over positions, by the states [n, H] after the last block: [n, H]
/// fp32. `labels` int64 [n]; undefined: drawn from the model's own predictions
/// with `rng`, one number per position, so that they are the same whatever the
/// device; then what follows from it is the Fisher information. Logits are made
/// for few positions at a time: 8 M elements, whatever the vocabulary.
at::Tensor label_gradient(const Model& model, const at::Tensor& states,
                          const at::Tensor& labels, Rng& rng);

/// The tokens that the text positions of ids [B, T] predict: int64 [n].
at::Tensor next_tokens(const at::Tensor& ids, std::int64_t prefix);

}  // namespace autoglm
