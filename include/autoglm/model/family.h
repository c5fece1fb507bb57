// The table of a family: what its configuration calls things, what its tensors
// are called, and which of a few kinds of attention, norm and MLP it is built
// from. Sources of every table: docs/families.md.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autoglm/core/json.h"

namespace autoglm {

/// Which dims of a head turn together, and by what.
enum class Rotary {
  kInterleaved,     // pairs (2i, 2i+1), "GPT-J"
  kHalf,            // pairs (i, i+R/2), "NeoX"
  kTwoDimensional,  // halves of the head: one by position, one by block
                    // position, each as kHalf; frequencies rounded to fp16
  kNone,            // learned positions are added to the embedding
};

/// The rows of the matrices that make queries, keys and values.
enum class QkvLayout {
  kSeparate,  // three matrices
  kBlocks,    // one: all queries, all keys, all values
  kPerHead,   // one: query, key and value of head 0, of head 1, ...
};

enum class MlpKind {
  kGateUp,   // SwiGLU; one matrix: gate rows, then up rows
  kGated,    // SwiGLU; two matrices
  kGeluErf,  // no gate; exact GELU
  kGeluTanh  // no gate; tanh approximation
};

/// Keys of config.json; "" where a family has none.
struct ConfigKeys {
  std::string_view layers = "num_hidden_layers";
  std::string_view vocabulary = "vocab_size";
  std::string_view query_heads = "num_attention_heads";
  std::string_view kv_heads = "num_key_value_heads";
  std::string_view head_size = "head_dim";
  std::string_view ffn = "intermediate_size";
  std::string_view epsilon = "rms_norm_eps";
  double default_epsilon = 1e-5;
  std::string_view max_positions = "max_position_embeddings";
};

struct FamilyTable {
  std::string_view name;        // "glm", for people
  std::string_view model_type;  // of config.json
  /// Tells the family from others of the same model_type; null: no namesake.
  bool (*claims)(const Json& config) = nullptr;
  ConfigKeys keys;
  Rotary rotary = Rotary::kInterleaved;
  double rotary_share = 0.5;  // of a head, where the file does not say
  QkvLayout qkv = QkvLayout::kSeparate;
  MlpKind mlp = MlpKind::kGateUp;
  bool layer_norm = false;
  bool linear_bias = false;  // all matrices but the head
  bool mixture = false;      // has blocks with routed experts
  bool latent = false;
  bool sparse = false;  // has an indexer
  bool always_tied = false;

  /// Prefixes a checkpoint may put before its tensor names, usual one first.
  std::vector<std::string_view> roots;
  std::string_view embedding, final_norm;  // below the root
  std::string_view head;                   // as a whole, or below the root
  bool head_below_root = false;
  std::string_view positions, block_positions;  // learned tables, or ""
  std::string_view block;                       // "layers.{}" below the root
  /// Canonical name -> the checkpoint's, both below the block. A family has
  /// the parts that its list names. `{}` is the number of an expert.
  std::vector<std::pair<std::string_view, std::string_view>> names;
  /// Ends of the names of stored tables that the forward pass computes itself.
  std::vector<std::string_view> buffers;

  bool has(std::string_view part) const;
};

/// All supported families, in the order tried.
const std::vector<FamilyTable>& family_tables();

}  // namespace autoglm
