// The forward pass, built from ATen calls, so that gradients flow wherever a
// tensor asks for them: norms and rotations in fp32, everything else in the
// stream's dtype.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "autoglm/model/model.h"
#include "autoglm/model/positions.h"

namespace autoglm {

/// RMSNorm, or LayerNorm where there is a bias, over the last dim.
at::Tensor apply_norm(const Norm& norm, const at::Tensor& x, double epsilon);

/// ids [B, T] -> [B, T, H] in `dtype`, with learned positions where the family
/// has them. `table` is the model's embedding, or another in its place.
at::Tensor embed(const Model& model, const Weight& table, const at::Tensor& ids,
                 const AttentionContext& context, at::ScalarType dtype);

/// x [B, T, H] -> [B, T, H]. `layer` is for the cache. Layers with an indexer
/// leave their selection of tokens in the context for those without.
at::Tensor block_forward(const Model& model, const Block& block,
                         std::int64_t layer, const at::Tensor& x,
                         AttentionContext& context);

/// The places in a block where matrices take their input.
enum class Site {
  kAttention,  // [B, T, H]: query, key, value; latent: query_a, key_value_a
  kQueryB,     // [B, T, query rank]: query_b
  kKeyValueB,  // [B, T, kv rank]: key_value_b
  kOutput,     // [B, T, N * value size]: attention.output
  kMlp,        // [B, T, H]: gate_up, or gate and up; shared and routed experts
  kDown,       // [B, T, F]: down, of the shared expert in mixture blocks
};

/// The sites of a block in forward order, each with the canonical names (below
/// the block) of the matrices that read it. Routed experts are not listed: each
/// sees some tokens of kMlp only (model/mlp.h).
struct SiteMatrices {
  Site site;
  std::vector<std::string> names;
};
std::vector<SiteMatrices> block_sites(const Block& block);

/// What the matrices at a site receive; computes no further than that.
at::Tensor site_input(const Model& model, const Block& block,
                      std::int64_t layer, const at::Tensor& x,
                      const AttentionContext& context, Site site);

/// The positions of x [B, T, H] that predict text, a view [B, n, H]. There are
/// `prefix` tokens before each text; the last one of them predicts the first
/// text token, the last text token predicts nothing.
at::Tensor text_positions(const at::Tensor& x, std::int64_t prefix);

/// The residual stream after the last block at these positions: [B * n, H].
/// ids: [B, T]. `on_hidden` gets the stream at them after the embedding and
/// after every block.
at::Tensor text_states(const Model& model, const at::Tensor& ids,
                       std::int64_t prefix, at::ScalarType dtype,
                       const std::function<void(at::Tensor)>& on_hidden = {});

/// Final norm and head: [..., H] -> logits [..., V].
at::Tensor head_forward(const Model& model, const at::Tensor& x);

/// The input of the head: the final norm of x.
at::Tensor final_hidden(const Model& model, const at::Tensor& x);

struct ForwardOptions {
  at::ScalarType dtype = at::kFloat;  // of the residual stream
  at::Tensor mask;                    // [B, T], or [B, 1, T, T] without a cache
  at::Tensor positions;  // [B, T], or [B, 2, T] where they are two-dimensional
  KvCache* cache = nullptr;
  bool last_only = false;                     // logits of the last token
  std::function<void(at::Tensor)> on_hidden;  // hidden.0 .. hidden.L
  /// Called after each part with its name: "embedding", "norms", "query, key,
  /// value", "attention", "output", "gate, up", "down", "experts", "head".
  std::function<void(const char*)> on_part;
};

/// ids [B, T] int64 on the model's device -> logits [B, T or 1, V] in dtype.
at::Tensor forward(const Model& model, const at::Tensor& ids,
                   const ForwardOptions& options = {});

/// The same where the context is known; the options' mask, positions and cache
/// have no say.
at::Tensor forward_in(const Model& model, const at::Tensor& ids,
                      AttentionContext& context, const ForwardOptions& options);

}  // namespace autoglm
