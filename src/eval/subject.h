// What latency is measured on: random tokens, and a cache full of them.
#pragma once

#include <vector>

#include "autoglm/eval/latency.h"
#include "autoglm/model/forward.h"

namespace autoglm {

/// Tokens that all models know: [batch, prompt] on `device`; without a prefill
/// as many of them as it takes to fill a cache.
at::Tensor random_prompt(const std::vector<Model>& models,
                         const LatencyPoint& point, at::Device device);

/// A cache that holds `tokens` tokens of each sequence: those of `prompt`,
/// repeated.
KvCache filled_cache(const Model& model, const at::Tensor& prompt,
                     std::int64_t tokens, const ForwardOptions& options);

}  // namespace autoglm
