// Random tiny GLMs in memory, one of every family.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "autoglm/model/block_parts.h"
#include "autoglm/model/model.h"

namespace autoglm::test {

struct TinySize {
  std::int64_t layers = 2, hidden = 32, heads = 4, kv_heads = 2, head_size = 8,
               ffn = 48, vocabulary = 64;
};

/// All names that tiny_model knows.
inline const std::vector<std::string>& tiny_families() {
  static const std::vector<std::string> names = {
      "glm",         "glm4",    "glm4_moe",   "glm4_moe_lite",
      "glm_moe_dsa", "chatglm", "chatglm-6b", "glm-2021"};
  return names;
}

/// config.json of a tiny model. Mixtures have a dense first block, then four
/// experts of which a token uses two, and a shared one.
inline Json tiny_config(const std::string& family, const TinySize& size = {}) {
  Json config = {{"model_type", family},
                 {"hidden_size", size.hidden},
                 {"vocab_size", size.vocabulary},
                 {"num_attention_heads", size.heads},
                 {"eos_token_id", 0},
                 {"torch_dtype", "bfloat16"}};
  if (family == "glm-2021") {
    config["model_type"] = "glm";
    config["num_layers"] = size.layers;
    config["max_sequence_length"] = 64;
    config["inner_hidden_size"] = size.ffn;
    return config;
  }
  if (family == "chatglm-6b") {
    config["model_type"] = "chatglm";
    config["num_layers"] = size.layers;
    config["max_sequence_length"] = 64;
    config["inner_hidden_size"] = size.ffn;
    config["position_encoding_2d"] = true;
    return config;
  }
  if (family == "chatglm") {
    config["padded_vocab_size"] = size.vocabulary;
    config["num_layers"] = size.layers;
    config["multi_query_attention"] = true;
    config["multi_query_group_num"] = size.kv_heads;
    config["kv_channels"] = size.head_size;
    config["ffn_hidden_size"] = size.ffn;
    config["add_qkv_bias"] = true;
    return config;
  }
  config["num_hidden_layers"] = size.layers;
  config["intermediate_size"] = size.ffn;
  config["rms_norm_eps"] = 1e-5;
  config["rope_theta"] = 10000.0;
  const bool latent = family == "glm4_moe_lite" || family == "glm_moe_dsa";
  if (!latent) {
    config["num_key_value_heads"] = size.kv_heads;
    config["head_dim"] = size.head_size;
    config["attention_bias"] = true;
    config["partial_rotary_factor"] = 0.5;
  } else {
    config["q_lora_rank"] = 24;
    config["kv_lora_rank"] = 16;
    config["qk_nope_head_dim"] = size.head_size - 4;
    config["qk_rope_head_dim"] = 4;
    config["v_head_dim"] = size.head_size + 4;
  }
  if (family == "glm_moe_dsa") {
    config["index_n_heads"] = 12;  // fewer make scores that tie at 0
    config["index_head_dim"] = 8;
    config["index_topk"] = 6;
  }
  if (latent || family == "glm4_moe") {
    config["use_qk_norm"] = family == "glm4_moe";
    config["moe_intermediate_size"] = size.ffn / 2;
    config["n_routed_experts"] = 4;
    config["num_experts_per_tok"] = 2;
    config["n_shared_experts"] = 1;
    config["first_k_dense_replace"] = 1;
    config["routed_scaling_factor"] = 1.5;
  }
  return config;
}

/// Weights from `seed`, bf16, as a checkpoint.
inline Model tiny_model(const std::string& family = "glm",
                        std::uint64_t seed = 1, const TinySize& size = {}) {
  Model model;
  model.config = tiny_config(family, size);
  model.architecture = read_architecture(model.config, "tiny");
  const Architecture& a = model.architecture;
  at::manual_seed(seed);
  const auto random = [](const std::vector<std::int64_t>& shape, double scale) {
    return (at::randn(shape) * scale).to(at::kBFloat16);
  };
  const auto vector = [&](const std::string& name,
                          const std::vector<std::int64_t>& shape) {
    const bool gain = name.ends_with("norm.weight");
    return random(shape, 0.1) + (gain ? 1 : 0);
  };
  model.embedding = DenseWeight{random({a.vocabulary, a.hidden}, 1)};
  if (a.position_rows > 0)
    model.positions = random({a.position_rows, a.hidden}, 0.2);
  if (a.block_positions)
    model.block_positions = random({a.position_rows, a.hidden}, 0.2);
  for (std::size_t i = 0; i < a.blocks.size(); ++i) {
    Block block;
    const BlockShapes shapes = block_shapes(a, i);
    for (const auto& matrix : shapes.matrices)
      *find_linear(block, matrix.name) = {
          DenseWeight{random({matrix.out, matrix.in}, 0.2)},
          matrix.bias ? random({matrix.out}, 0.1) : at::Tensor()};
    for (const auto& other : shapes.others)
      *find_tensor(block, other.name) = vector(other.name, other.shape);
    model.blocks.push_back(block);
  }
  model.final_norm.gain = vector("norm.weight", {a.hidden});
  if (a.layer_norm) model.final_norm.bias = vector("norm.bias", {a.hidden});
  if (!a.tied_head)
    model.head = Linear{DenseWeight{random({a.vocabulary, a.hidden}, 0.2)}, {}};
  return model;
}

/// Random windows [count, length] below the vocabulary.
inline at::Tensor random_windows(std::int64_t count, std::int64_t length,
                                 std::int64_t vocabulary = 64) {
  return at::randint(vocabulary, {count, length}, at::kLong);
}

/// A number that changes when any value of the model does.
inline double checksum(const Model& model) {
  double sum = 0;
  int position = 1;
  const auto add = [&](const at::Tensor& values) {
    if (values.defined())
      sum += ++position * values.to(at::kDouble).abs().sum().item<double>();
  };
  add(to_dense(model.embedding, at::kDouble));
  for (const Block& block : model.blocks)
    visit_block(
        block,
        [&](const std::string&, const Linear& part) {
          add(to_dense(part.weight, at::kDouble));
          add(part.bias);
        },
        [&](const std::string&, const at::Tensor& part) { add(part); });
  add(model.final_norm.gain);
  add(model.final_norm.bias);
  if (model.head) add(to_dense(model.head->weight, at::kDouble));
  return sum;
}

}  // namespace autoglm::test
