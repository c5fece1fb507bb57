// What kind of GLM a checkpoint is: the numbers of its config.json and the
// table of its family. Forward, checkpoint and pruning read these tables; a
// new family is a new table, not a new if-chain.
//
// One alphabet everywhere: B batch, T tokens, H hidden, F feed-forward,
// N query heads, G key/value heads, D head size, V vocabulary, L layers.
// Linear weights are [out, in]; quantization groups run along `in`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "autoglm/core/json.h"

namespace autoglm {

/// Names of one family. `{}` in a block name is the layer number. Canonical
/// linear names are layers.N.attention.{query,key,value,output} and
/// layers.N.mlp.{gate_up,down}; beside them `embedding` and `head`.
struct FamilyTable {
  std::string_view name;        // "glm"
  std::string_view model_type;  // of config.json
  std::string_view marker_key;  // config key that tells it from a namesake
  std::string_view embedding, final_norm, head;  // without ".weight"
  std::string_view block;                        // "model.layers.{}"
  std::string_view query, key, value, output;    // below the block
  std::string_view gate_up, down;
  std::string_view input_norm;            // before attention
  std::string_view middle_norm;           // before the mlp
  std::string_view after_attention_norm;  // on the sublayer output, or ""
  std::string_view after_mlp_norm;        // on the sublayer output, or ""
};

/// All supported families, in the order tried.
const std::vector<FamilyTable>& family_tables();

/// One layer's widths.
struct BlockWidths {
  std::int64_t query_heads;  // N
  std::int64_t kv_heads;     // G; N % G == 0
  std::int64_t ffn;          // F
  bool operator==(const BlockWidths&) const = default;
};

struct Architecture {
  const FamilyTable* family = nullptr;
  std::int64_t vocabulary = 0;   // V, rows of the embedding
  std::int64_t hidden = 0;       // H
  std::int64_t head_size = 0;    // D
  std::int64_t rotary_size = 0;  // leading dims of a head that rotate, even
  double rotary_base = 10000;
  double norm_epsilon = 0;
  bool attention_bias = false;
  bool tied_head = false;
  std::int64_t max_positions = 0;
  std::vector<std::int64_t> end_ids;  // eos, one or several
  std::vector<BlockWidths> blocks;    // L entries

  std::int64_t layers() const {
    return static_cast<std::int64_t>(blocks.size());
  }
  /// All layers alike, so that stock loaders can build the model.
  bool uniform() const;
};

/// Reads config.json's content. Rope settings in both spellings; widths per
/// layer from `per_layer_config` when present. Throws kInput: missing or
/// wrong field, unsupported model_type (with the list of supported ones),
/// rope scaling that is not implemented.
Architecture read_architecture(const Json& config, const std::string& source);

/// `config` with the widths of `architecture` written back: uniform ones in
/// the ordinary keys, others in `per_layer_config` (the ordinary keys then
/// hold the maximum). Everything else stays as it was.
Json write_architecture(Json config, const Architecture& architecture);

}  // namespace autoglm
