// Quality of a model on token windows, alone or against its original.
#pragma once

#include <functional>
#include <vector>

#include "autoglm/eval/scorecard.h"
#include "autoglm/model/model.h"
#include "autoglm/text/corpus.h"

namespace autoglm {

struct EvaluateOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  std::int64_t batch = 8;  // windows at once
  /// Of the model's quantized matrices; the original's are exact.
  QuantizedProduct product = QuantizedProduct::kExact;
  /// With an original, called for every batch: what comes out of the embedding
  /// and of each block at the positions that are scored, [n, H] each, of the
  /// model and of the original.
  std::function<void(const std::vector<at::Tensor>&,
                     const std::vector<at::Tensor>&)>
      on_states = {};
  /// Where the original's last states stay between calls, on the CPU, a tensor
  /// per batch: filled while it is empty, by a call that measures the original
  /// itself or one that compares with it; later calls over the same windows
  /// with the same batch and dtype do not run the original again. They take H
  /// numbers a token. Not together with on_states.
  std::vector<at::Tensor>* original_states = nullptr;
};

/// Perplexity, bits per byte, accuracy; with `original` the divergence too
/// (both models run side by side over the same batches). The same windows
/// give the same numbers whatever the batch size, up to rounding.
Scorecard evaluate(const Model& model, const TokenWindows& windows,
                   const Model* original = nullptr,
                   const EvaluateOptions& options = {});

/// The windows as one tensor [windows, P + length] int64.
at::Tensor window_ids(const TokenWindows& windows);

}  // namespace autoglm
