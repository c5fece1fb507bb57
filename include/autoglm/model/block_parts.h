// Everything a block consists of, by canonical names below "layers.N.": one
// list that loading, writing, counting, converting and checking share.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "autoglm/core/text.h"
#include "autoglm/model/model.h"

namespace autoglm {

/// What a block of these widths consists of.
struct BlockShapes {
  struct Matrix {
    std::string name;  // "attention.query", "mlp.experts.7.down"
    std::int64_t out, in;
    bool bias;  // the configuration promises one
  };
  struct Vector {
    std::string name;  // with its end: "input_norm.weight", "mlp.router.weight"
    std::vector<std::int64_t> shape;
  };
  std::vector<Matrix> matrices;
  std::vector<Vector> others;
};
BlockShapes block_shapes(const Architecture& architecture, std::size_t layer);

/// Where a part is held; null pointer for an unknown name. Experts' places are
/// made as they are asked for.
Linear* find_linear(Block& block, std::string_view name);
at::Tensor* find_tensor(Block& block, std::string_view name);

/// Below a block of a checkpoint: "mlp.down" -> "mlp.down_proj",
/// "input_norm.weight" -> "input_layernorm.weight".
std::string checkpoint_linear_name(const FamilyTable& family,
                                   std::string_view name);
std::string checkpoint_tensor_name(const FamilyTable& family,
                                   std::string_view name);
/// "model.layers.3."
std::string block_prefix(const Architecture& architecture, std::size_t layer);

/// Calls linear(name, Linear&) and tensor(name, at::Tensor&) for everything
/// that is there, in forward order. `B` is Block or const Block.
template <class B, class OnLinear, class OnTensor>
void visit_block(B& block, OnLinear&& linear, OnTensor&& tensor) {
  const auto matrix = [&](const std::string& name, auto& part) {
    if (part.present()) linear(name, part);
  };
  const auto values = [&](const std::string& name, auto& part) {
    if (part.defined()) tensor(name, part);
  };
  const auto norm = [&](const std::string& name, auto& part) {
    values(name + ".weight", part.gain);
    values(name + ".bias", part.bias);
  };
  const auto mlp = [&](const std::string& name, auto& part) {
    matrix(name + "gate_up", part.gate_up);
    matrix(name + "gate", part.gate);
    matrix(name + "up", part.up);
    matrix(name + "down", part.down);
  };
  norm("input_norm", block.input_norm);
  auto& a = block.attention;
  matrix("attention.query", a.query);
  matrix("attention.key", a.key);
  matrix("attention.value", a.value);
  matrix("attention.query_key_value", a.query_key_value);
  norm("attention.query_norm", a.query_norm);
  norm("attention.key_norm", a.key_norm);
  matrix("attention.query_a", a.query_a);
  norm("attention.query_a_norm", a.query_a_norm);
  matrix("attention.query_b", a.query_b);
  matrix("attention.key_value_a", a.key_value_a);
  norm("attention.key_value_a_norm", a.key_value_a_norm);
  matrix("attention.key_value_b", a.key_value_b);
  values("attention.indexer.query.weight", a.indexer.query);
  values("attention.indexer.key.weight", a.indexer.key);
  norm("attention.indexer.key_norm", a.indexer.key_norm);
  values("attention.indexer.head_weights.weight", a.indexer.head_weights);
  matrix("attention.output", a.output);
  norm("after_attention_norm", block.after_attention_norm);
  norm("middle_norm", block.middle_norm);
  mlp("mlp.", block.mlp);
  auto& m = block.mixture;
  values("mlp.router.weight", m.router);
  values("mlp.router.correction_bias", m.correction_bias);
  for (std::size_t e = 0; e < m.experts.size(); ++e)
    mlp(fmt::format("mlp.experts.{}.", e), m.experts[e]);
  mlp("mlp.shared.", m.shared);
  norm("after_mlp_norm", block.after_mlp_norm);
}

}  // namespace autoglm
