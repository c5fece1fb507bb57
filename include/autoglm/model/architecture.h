// What kind of GLM a checkpoint is: the numbers of its config.json and the
// table of its family. Forward, checkpoint and pruning read these; a new
// family is a new table, not a new if-chain.
//
// One alphabet everywhere: B batch, T tokens, H hidden, F feed-forward,
// N query heads, G key/value heads, D head size, E experts, K experts per
// token, V vocabulary, L layers. Linear weights are [out, in]; quantization
// groups run along `in`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autoglm/core/json.h"
#include "autoglm/model/family.h"

namespace autoglm {

/// One layer's widths. Where a part was removed, all of its widths are 0.
struct BlockWidths {
  std::int64_t query_heads = 0;  // N
  std::int64_t kv_heads = 0;     // G; N % G == 0
  std::int64_t ffn = 0;          // F, of each routed expert where there are any
  std::int64_t experts = 0;      // E; 0: one MLP for all tokens
  std::int64_t shared_ffn = 0;   // F of the shared experts together; 0: none
  bool has_attention() const { return query_heads > 0; }
  bool has_mlp() const { return ffn > 0; }
  bool operator==(const BlockWidths&) const = default;
};

/// Latent attention (DeepSeek's MLA): queries and key/value pairs come from
/// low-rank vectors; `rope` dims of a head turn, the key's being shared.
struct LatentSizes {
  std::int64_t query_rank = 0;  // 0: queries come from one matrix
  std::int64_t kv_rank = 0;
  std::int64_t nope = 0;  // dims of a query or key head without position
  std::int64_t rope = 0;  // dims with it; D = nope + rope
};

/// How a token chooses its experts.
struct RouterRule {
  std::int64_t per_token = 0;    // K
  std::int64_t groups = 1;       // experts are chosen from
  std::int64_t kept_groups = 1;  // so many of so many groups
  bool normalize = true;         // weights sum to `scale`
  double scale = 1;
};

/// Sparse attention: a small scorer picks the tokens each query may see.
struct IndexerSizes {
  std::int64_t heads = 0;
  std::int64_t size = 0;    // dims of a scoring head
  std::int64_t top = 0;     // tokens a query sees; fewer tokens: all of them
  std::vector<bool> fresh;  // per layer: own scores, or those of the last layer
};

/// The tokens of a prompt with a blank to fill, for families whose positions
/// have two dimensions. Empty when not known.
struct BlankIds {
  /// Groups by priority; the blank is the first token of the first group that
  /// the prompt holds.
  std::vector<std::vector<std::int64_t>> masks;
  std::int64_t start = -1;  // generation begins at this token
  bool known() const { return start >= 0; }
};

struct Architecture {
  const FamilyTable* family = nullptr;
  std::string root;              // prefix of the tensor names, "" or "model."
  std::int64_t vocabulary = 0;   // V, rows of the embedding
  std::int64_t hidden = 0;       // H
  std::int64_t head_size = 0;    // D of queries and keys
  std::int64_t value_size = 0;   // D of values; differs in latent attention
  std::int64_t rotary_size = 0;  // dims of a head that turn, even
  double rotary_base = 10000;
  Rotary rotary = Rotary::kInterleaved;
  QkvLayout qkv = QkvLayout::kSeparate;
  double norm_epsilon = 0;
  bool layer_norm = false;      // LayerNorm with bias instead of RMSNorm
  bool attention_bias = false;  // of queries, keys and values
  bool linear_bias = false;     // of all other matrices but the head
  bool tied_head = false;
  bool qk_norm = false;  // RMSNorm over every query and key head
  /// Where a part's result is added: to the stream, or to the part's own
  /// normed input times `residual_scale`.
  bool normed_residual = false;
  double residual_scale = 1;
  LatentSizes latent;  // kv_rank > 0: latent attention
  RouterRule router;
  IndexerSizes indexer;                // size > 0: sparse attention
  std::int64_t position_rows = 0;      // of the learned position table; 0: none
  bool block_positions = false;        // a second such table
  std::int64_t next_token_blocks = 0;  // stored after block L-1, not run
  std::int64_t max_positions = 0;
  /// 4 or 8: keys and values are rounded to so many bits, each head of each
  /// token by itself, and a cache keeps the codes; 0: they stay as they are.
  /// The key `kv_cache_bits` of config.json, which is our own.
  int kv_cache_bits = 0;
  std::vector<std::int64_t> end_ids;  // eos, one or several
  BlankIds blank;
  std::vector<BlockWidths> blocks;  // L entries

  std::int64_t layers() const {
    return static_cast<std::int64_t>(blocks.size());
  }
  bool is_latent() const { return latent.kv_rank > 0; }
  bool is_sparse() const { return indexer.size > 0; }
  /// Positions have two dimensions: place and place inside the blank.
  bool two_dimensional() const {
    return rotary == Rotary::kTwoDimensional || block_positions;
  }
  /// All layers have the same heads, and those of one kind (dense, mixture) the
  /// same other widths, so that stock loaders can build the model.
  bool uniform() const;
};

/// Reads config.json's content. Rope settings in both spellings; widths per
/// layer from `per_layer_config` when present. Throws kInput: missing or
/// wrong field, unsupported model_type (with the list of supported ones),
/// a variant that is not implemented.
Architecture read_architecture(const Json& config, const std::string& source);

/// `config` with the widths of `architecture` written back: uniform ones in
/// the ordinary keys, others in `per_layer_config` (the ordinary keys then
/// hold the maximum). Everything else stays as it was.
Json write_architecture(Json config, const Architecture& architecture);

}  // namespace autoglm
