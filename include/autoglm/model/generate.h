// Autoregressive generation with a key/value cache.
#pragma once

#include <cstdint>
#include <functional>

#include "autoglm/core/rng.h"
#include "autoglm/model/forward.h"

namespace autoglm {

struct GenerateOptions {
  std::int64_t max_tokens = 64;
  double temperature = 0;   // 0: greedy
  bool stop_at_end = true;  // stop a sequence at one of architecture.end_ids
  at::ScalarType dtype = at::kFloat;
  at::Tensor mask;  // [B, T], left padding
  /// Called with each new column of ids [B]; return false to stop.
  std::function<bool(const at::Tensor&)> on_token;
};

/// ids [B, T] -> [B, T + new tokens]; after its end token a sequence is filled
/// with that token. `rng` is used only when temperature > 0.
at::Tensor generate(const Model& model, const at::Tensor& ids,
                    const GenerateOptions& options, Rng* rng = nullptr);

}  // namespace autoglm
