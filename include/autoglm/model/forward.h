// The forward pass, built from ATen calls, so that gradients flow wherever a
// tensor asks for them. Math: RMSNorm in fp32, interleaved partial rotary
// embedding, grouped-query attention, SwiGLU.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

/// Keys and values of the tokens seen so far, per layer [B, G, T, D].
struct KvCache {
  std::vector<at::Tensor> keys;
  std::vector<at::Tensor> values;
  at::Tensor mask;  // [B, T] bool of all cached tokens, or undefined: all real
  std::int64_t length() const {
    return keys.empty() || !keys[0].defined() ? 0 : keys[0].size(2);
  }
};

/// What all blocks of one forward call share.
struct AttentionContext {
  at::Tensor cosine;  // [B, T, R/2] fp32 (B may be 1)
  at::Tensor sine;
  at::Tensor bias;  // additive mask [B, 1, T, T_all] or undefined: causal
  KvCache* cache = nullptr;
};

/// ids: [B, T] int64. mask: [B, T] (1 real, 0 padding) or undefined.
/// positions: [B, T] int64, or undefined: counted from the mask.
AttentionContext attention_context(const Model& model, const at::Tensor& ids,
                                   const at::Tensor& mask = {},
                                   const at::Tensor& positions = {},
                                   KvCache* cache = nullptr);

/// ids [B, T] -> [B, T, H] in `dtype`.
at::Tensor embed(const Model& model, const at::Tensor& ids,
                 at::ScalarType dtype);

/// x [B, T, H] -> [B, T, H]. `layer` is for the cache.
at::Tensor block_forward(const Model& model, const Block& block,
                         std::int64_t layer, const at::Tensor& x,
                         const AttentionContext& context);

/// The places in a block where matrices take their input.
enum class Site {
  kAttention,  // [B, T, H]   of query, key and value
  kOutput,     // [B, T, N*D] of attention.output
  kMlp,        // [B, T, H]   of gate_up
  kDown,       // [B, T, F]   of down
};

/// What the matrices at a site receive; computes no further than that.
at::Tensor site_input(const Model& model, const Block& block,
                      std::int64_t layer, const at::Tensor& x,
                      const AttentionContext& context, Site site);

/// The residual stream after the last block, at the positions that predict
/// text: [B * n, H]. ids: [B, T] with `prefix` tokens before each text; the
/// last one of them predicts the first text token, the last text token predicts
/// nothing.
at::Tensor text_states(const Model& model, const at::Tensor& ids,
                       std::int64_t prefix, at::ScalarType dtype);

/// Final norm and head: [..., H] -> logits [..., V].
at::Tensor head_forward(const Model& model, const at::Tensor& x);

/// The input of the head: the final norm of x.
at::Tensor final_hidden(const Model& model, const at::Tensor& x);

struct ForwardOptions {
  at::ScalarType dtype = at::kFloat;  // of the residual stream
  at::Tensor mask;
  at::Tensor positions;
  KvCache* cache = nullptr;
  bool last_only = false;                     // logits of the last token
  std::function<void(at::Tensor)> on_hidden;  // hidden.0 .. hidden.L
};

/// ids [B, T] int64 on the model's device -> logits [B, T or 1, V] in dtype.
at::Tensor forward(const Model& model, const at::Tensor& ids,
                   const ForwardOptions& options = {});

}  // namespace autoglm
