// Random tiny GLMs in memory.
#pragma once

#include <ATen/ATen.h>

#include "autoglm/model/model.h"

namespace autoglm::test {

struct TinySize {
  std::int64_t layers = 2, hidden = 32, heads = 4, kv_heads = 2, head_size = 8,
               ffn = 48, vocabulary = 64;
};

/// `family`: "glm" or "glm4". Weights from `seed`, bf16, as a checkpoint.
inline Model tiny_model(const char* family = "glm", std::uint64_t seed = 1,
                        const TinySize& size = {}) {
  Model model;
  model.config = {{"model_type", family},
                  {"hidden_size", size.hidden},
                  {"vocab_size", size.vocabulary},
                  {"num_hidden_layers", size.layers},
                  {"num_attention_heads", size.heads},
                  {"num_key_value_heads", size.kv_heads},
                  {"head_dim", size.head_size},
                  {"intermediate_size", size.ffn},
                  {"attention_bias", true},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 10000.0},
                  {"partial_rotary_factor", 0.5},
                  {"eos_token_id", 0},
                  {"torch_dtype", "bfloat16"}};
  model.architecture = read_architecture(model.config, "tiny");
  at::manual_seed(seed);
  const auto random = [](std::initializer_list<std::int64_t> shape,
                         double scale) {
    return (at::randn(shape) * scale).to(at::kBFloat16);
  };
  const auto linear = [&](std::int64_t out, std::int64_t in, bool bias) {
    return Linear{DenseWeight{random({out, in}, 0.2)},
                  bias ? random({out}, 0.1) : at::Tensor()};
  };
  const auto gain = [&] { return (random({size.hidden}, 0.1) + 1); };
  const std::int64_t query = size.heads * size.head_size;
  const std::int64_t key = size.kv_heads * size.head_size;
  model.embedding = DenseWeight{random({size.vocabulary, size.hidden}, 1)};
  for (std::int64_t i = 0; i < size.layers; ++i) {
    Block block;
    block.input_norm = gain();
    block.middle_norm = gain();
    if (!model.architecture.family->after_mlp_norm.empty()) {
      block.after_attention_norm = gain();
      block.after_mlp_norm = gain();
    }
    block.attention = {
        linear(query, size.hidden, true), linear(key, size.hidden, true),
        linear(key, size.hidden, true), linear(size.hidden, query, false)};
    block.mlp = {linear(2 * size.ffn, size.hidden, false),
                 linear(size.hidden, size.ffn, false)};
    model.blocks.push_back(block);
  }
  model.final_norm = gain();
  model.head = linear(size.vocabulary, size.hidden, false);
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
  for (const NamedLinear& linear : named_linears(model))
    sum += ++position * to_dense(weight_of(model, linear.name), at::kDouble)
                            .abs()
                            .sum()
                            .item<double>();
  for (const Block& block : model.blocks)
    sum += ++position *
           block.input_norm.to(at::kDouble).abs().sum().item<double>();
  return sum + model.final_norm.to(at::kDouble).abs().sum().item<double>();
}

}  // namespace autoglm::test
