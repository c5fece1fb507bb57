// Model: a GLM in memory, as a value. It holds tensor handles; copying it
// copies no storage. Passes replace handles and never write through a tensor,
// so a copy is a free snapshot and an aborted pass leaves nothing half-done.
// Matrices are held as their checkpoint has them: fused ones stay fused.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/core/json.h"
#include "autoglm/model/architecture.h"
#include "autoglm/model/weight.h"

namespace autoglm {

struct Linear {
  Weight weight;    // [out, in]; dense without a value: this block has none
  at::Tensor bias;  // [out], or undefined

  bool present() const {
    const auto* dense = std::get_if<DenseWeight>(&weight);
    return dense == nullptr || dense->value.defined();
  }
};

/// RMSNorm, or LayerNorm where it has a bias. Absent: no gain.
struct Norm {
  at::Tensor gain;  // [n]
  at::Tensor bias;  // [n], or undefined
};

/// Scores that pick the tokens a query may see (DeepSeek sparse attention).
struct Indexer {
  at::Tensor query;         // [heads * size, query rank]
  at::Tensor key;           // [size, H]
  Norm key_norm;            // [size], a LayerNorm
  at::Tensor head_weights;  // [heads, H]
};

/// Grouped-query attention: query, key and value, or all three in one matrix
/// (Architecture::qkv says how its rows lie). Latent attention: `query_a`,
/// norm, `query_b` (or `query`), and `key_value_a` [rank + rope], norm over the
/// rank, `key_value_b` [N * (nope + value)].
struct Attention {
  Linear query;               // [N*D, H]
  Linear key;                 // [G*D, H]
  Linear value;               // [G*D, H]
  Linear query_key_value;     // [(N + 2G) * D, H]
  Norm query_norm, key_norm;  // [D], one for all heads
  Linear query_a, query_b;
  Norm query_a_norm;
  Linear key_value_a, key_value_b;
  Norm key_value_a_norm;
  Indexer indexer;
  Linear output;  // [H, N * value size]
};

/// SwiGLU with the two inner matrices fused or apart, or a plain GELU MLP,
/// which has `up` and `down` alone.
struct Mlp {
  Linear gate_up;  // [2F, H]: gate rows, then up rows
  Linear gate;     // [F, H]
  Linear up;       // [F, H]
  Linear down;     // [H, F]
};

/// Routed experts, of which every token uses a few, and shared ones, which
/// every token uses, as one MLP.
struct Mixture {
  at::Tensor router;           // [E, H]
  at::Tensor correction_bias;  // [E]; moves the choice, not the weights
  std::vector<Mlp> experts;    // E, or none: the block has an `mlp`
  Mlp shared;
};

/// The norms after the parts are those of sandwich-norm families. A part that
/// was removed has neither matrices nor norms; the stream passes it by.
struct Block {
  Norm input_norm;
  Attention attention;
  Norm after_attention_norm;
  Norm middle_norm;
  Mlp mlp;
  Mixture mixture;
  Norm after_mlp_norm;

  bool is_mixture() const { return !mixture.experts.empty(); }
  bool has_attention() const { return attention.output.present(); }
  bool has_mlp() const { return is_mixture() || mlp.down.present(); }
};

struct Model {
  Architecture architecture;   // numbers; widths follow the tensors
  Weight embedding;            // [V, H]
  at::Tensor positions;        // [P, H] learned, or undefined
  at::Tensor block_positions;  // [P, H]
  std::vector<Block> blocks;
  Norm final_norm;             // [H]
  std::optional<Linear> head;  // [V, H]; absent when tied to the embedding
  std::map<std::string, at::Tensor> extra;  // not part of it: copied through
  Json config;                              // config.json as read
  std::filesystem::path source;             // folder it came from, "" if none
};

/// A block's widths as its tensors say. Throws kInternal if they disagree.
BlockWidths widths(const Architecture& architecture, const Block& block);

/// Writes the blocks' widths into architecture.blocks. Passes that cut call it.
void update_widths(Model& model);

/// The head's weight, also when tied.
const Weight& head_weight(const Model& model);

/// A matrix of the model by its names.
struct NamedLinear {
  std::string name;             // "layers.3.mlp.down", "head", "embedding"
  std::string checkpoint_name;  // "model.layers.3.mlp.down_proj"
  std::int64_t layer;           // -1 outside the blocks
};

/// All matrices in forward order: embedding, blocks, head (if not tied).
/// Routers, indexers and position tables are not among them: a hard choice or
/// a sum hangs on their values, so passes leave them alone.
std::vector<NamedLinear> named_linears(const Model& model);
/// What a checkpoint calls the head: "lm_head".
std::string head_name(const Architecture& architecture);
/// Access by canonical name. The embedding has no bias. Throw kInternal.
const Weight& weight_of(const Model& model, const std::string& name);
Weight& weight_of(Model& model, const std::string& name);
const at::Tensor* bias_of(const Model& model, const std::string& name);

/// Canonical names that any of the globs `patterns` selects: over canonical
/// names, the checkpoint's own names, and the aliases encoder.block.N and
/// encoder.layers.N for block N; a pattern that names a block takes all in
/// it. Throws kConfig for a pattern that selects nothing, with near names.
std::vector<std::string> select_linears(
    const Model& model, const std::vector<std::string>& patterns);

/// Whether products leave what they multiply as it is, as every measure of
/// quality wants it, or may round it, which is several times as fast (CPU): to
/// 8 bits before a quantized matrix, to bf16 before one in bf16 where rows are
/// many and the processor multiplies bf16. A device with kernels rounds nothing
/// of its own accord; there the fast form has the matrices that read the same
/// vectors in one piece.
enum class QuantizedProduct { kExact, kInteger };

/// The model with dense tensors in `dtype` (quantized ones keep their codes)
/// on `device`; for kInteger with interleaved or joined weights, and on a CPU
/// that computes in fp32 with dense matrices of 16 bits as they are. A model
/// that is moved here gives its weights up one by one, so that both forms of
/// all of them are never in memory together.
Model to_compute(Model model, at::Device device, at::ScalarType dtype,
                 QuantizedProduct product = QuantizedProduct::kExact);

/// apply_linear with each of several matrices: x [..., in] -> [..., out] each.
/// Where they round x, and alike, it is rounded once.
std::vector<at::Tensor> apply_linears(
    const at::Tensor& x, const std::vector<const Linear*>& linears);

/// A copy on `device`, every tensor in the dtype it has.
Model to_device(const Model& model, at::Device device);

/// Checks that shapes fit each other and all numbers are finite. Throws
/// kNumeric for NaN or infinity, kInternal for shapes, with the tensor's name.
void verify_model(const Model& model);

}  // namespace autoglm
