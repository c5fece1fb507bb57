// Model: a GLM in memory, as a value. It holds tensor handles; copying it
// copies no storage. Passes replace handles and never write through a tensor,
// so a copy is a free snapshot and an aborted pass leaves nothing half-done.
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
  Weight weight;    // [out, in]
  at::Tensor bias;  // [out], or undefined
};

struct Attention {
  Linear query;   // [N*D, H]
  Linear key;     // [G*D, H]
  Linear value;   // [G*D, H]
  Linear output;  // [H, N*D]
};

struct Mlp {
  Linear gate_up;  // [2F, H]: gate rows, then up rows
  Linear down;     // [H, F]
};

/// Norm gains are [H]; the last two only in sandwich-norm families.
struct Block {
  at::Tensor input_norm;
  Attention attention;
  at::Tensor after_attention_norm;
  at::Tensor middle_norm;
  Mlp mlp;
  at::Tensor after_mlp_norm;
};

struct Model {
  Architecture architecture;  // numbers; widths follow the tensors
  Weight embedding;           // [V, H]
  std::vector<Block> blocks;
  at::Tensor final_norm;       // [H]
  std::optional<Linear> head;  // [V, H]; absent when tied to the embedding
  std::map<std::string, at::Tensor> extra;  // not understood: copied through
  Json config;                              // config.json as read
  std::filesystem::path source;             // folder it came from, "" if none
};

/// A block's widths as its tensors say. Throws kInternal if they disagree.
BlockWidths widths(const Block& block, std::int64_t head_size);

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
std::vector<NamedLinear> named_linears(const Model& model);
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

/// A copy whose dense tensors are `dtype` (quantized ones keep their codes)
/// on `device`.
Model to_compute(const Model& model, at::Device device, at::ScalarType dtype);

/// A copy on `device`, every tensor in the dtype it has.
Model to_device(const Model& model, at::Device device);

/// Checks that shapes fit each other and all numbers are finite. Throws
/// kNumeric for NaN or infinity, kInternal for shapes, with the tensor's name.
void verify_model(const Model& model);

}  // namespace autoglm
