// Tiny models in every layout that pruning tells apart.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/support/tiny_model.h"

namespace autoglm::test {

/// A tiny model after changes to its config.json (null removes a key).
/// Tensors that no longer fit are drawn again.
inline Model changed_model(const std::string& family, const Json& changes,
                           const TinySize& size = {}) {
  Model model = tiny_model(family, 1, size);
  model.config.merge_patch(changes);
  model.architecture = read_architecture(model.config, "changed");
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    Block fitted;
    const BlockShapes shapes = block_shapes(model.architecture, i);
    for (const auto& matrix : shapes.matrices) {
      Linear& linear = *find_linear(fitted, matrix.name);
      linear = *find_linear(model.blocks[i], matrix.name);
      if (!linear.present() || rows(linear.weight) != matrix.out ||
          columns(linear.weight) != matrix.in)
        linear.weight = DenseWeight{
            (at::randn({matrix.out, matrix.in}) * 0.2).to(at::kBFloat16)};
      if (matrix.bias && !linear.bias.defined())
        linear.bias = (at::randn({matrix.out}) * 0.1).to(at::kBFloat16);
    }
    for (const auto& other : shapes.others) {
      at::Tensor& tensor = *find_tensor(fitted, other.name);
      tensor = *find_tensor(model.blocks[i], other.name);
      if (tensor.sizes() != at::IntArrayRef(other.shape))
        tensor = (at::randn(other.shape) * 0.1).to(at::kBFloat16);
    }
    model.blocks[i] = fitted;
  }
  return model;
}

/// A tiny mixture of `experts`, every token sent to `per_token`.
inline Model tiny_mixture(std::int64_t experts, std::int64_t per_token,
                          const TinySize& size = {}) {
  return changed_model(
      "glm4_moe",
      {{"n_routed_experts", experts}, {"num_experts_per_tok", per_token}},
      size);
}

/// What the correction bias of block 1 prefers: a number per routed expert.
inline Model preferring(Model model, const std::vector<float>& biases) {
  model.blocks[1].mixture.correction_bias =
      at::tensor(biases).to(at::kBFloat16);
  return model;
}

/// All families, and what a checkpoint may say that changes a layout.
inline std::map<std::string, Model> pruning_models() {
  std::map<std::string, Model> out;
  for (const std::string& family : tiny_families())
    out[family] = tiny_model(family);
  const TinySize multi_head = {.kv_heads = 4};
  for (const char* family : {"glm", "glm4_moe", "chatglm"})
    out[std::string(family) + ", a key for each head"] =
        tiny_model(family, 1, multi_head);
  out["glm, one key"] = tiny_model("glm", 1, {.kv_heads = 1});
  out["chatglm, packed head by head"] =
      changed_model("chatglm", {{"multi_query_attention", false}}, multi_head);
  out["chatglm, biases everywhere"] =
      changed_model("chatglm", {{"add_bias_linear", true}});
  out["latent, queries from one matrix"] =
      changed_model("glm4_moe_lite", {{"q_lora_rank", nullptr}});
  out["two shared experts"] =
      changed_model("glm4_moe", {{"n_shared_experts", 2}});
  out["no shared expert"] =
      changed_model("glm4_moe", {{"n_shared_experts", 0}});
  out["an odd shared expert"] =
      changed_model("glm4_moe", {{"shared_expert_intermediate_size", 40}});
  return out;
}

}  // namespace autoglm::test
