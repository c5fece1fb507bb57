// Attention of every GLM: grouped queries, latent vectors, sparse selection.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

#include "autoglm/model/forward.h"

namespace autoglm {

/// x [B, T, H], already normed -> what the output projection receives,
/// [B, T, N * value size]; or, where `stop` is a site inside, what that
/// receives. Appends to the context's cache and sets its selection.
at::Tensor attention_values(const Architecture& architecture,
                            const Attention& attention, std::int64_t layer,
                            const at::Tensor& x, AttentionContext& context,
                            std::optional<Site> stop);

}  // namespace autoglm
