#include "autoglm/model/random_model.h"

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"

namespace autoglm {
namespace {

// Numbers of the published config.json files; what the forward pass does not
// read is left out. docs/families.md names the sources.
struct PublishedShape {
  const char* name;
  const char* config;
  std::int64_t layers = 0;  // of a slice that is a shape by itself; 0: all
  std::int64_t vocabulary = 0;
};

constexpr const char* kGlm4 = R"({"model_type": "glm4", "hidden_size": 4096,
  "num_hidden_layers": 40, "num_attention_heads": 32,
  "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 13696,
  "vocab_size": 151552, "max_position_embeddings": 32768,
  "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
  "attention_bias": false, "tie_word_embeddings": false})";
constexpr const char* kGlm10b = R"({"model_type": "glm", "hidden_size": 4096,
  "num_layers": 48, "num_attention_heads": 64, "max_sequence_length": 1024,
  "vocab_size": 50304, "block_position_encoding": true,
  "architectures": ["GLMModel"]})";
constexpr const char* kEdge = R"({"model_type": "glm", "hidden_size": 2048,
  "num_hidden_layers": 28, "num_attention_heads": 16,
  "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144,
  "vocab_size": 59264, "max_position_embeddings": 8192,
  "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 1.0,
  "attention_bias": false, "tie_word_embeddings": true})";
constexpr const char* kAir = R"({"model_type": "glm4_moe", "hidden_size": 4096,
  "num_hidden_layers": 46, "num_attention_heads": 96,
  "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 10944,
  "moe_intermediate_size": 1408, "n_routed_experts": 128,
  "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1,
  "n_group": 1, "topk_group": 1, "norm_topk_prob": true,
  "routed_scaling_factor": 1.0, "use_qk_norm": false, "attention_bias": true,
  "vocab_size": 151552, "max_position_embeddings": 131072,
  "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "partial_rotary_factor": 0.5,
  "tie_word_embeddings": false})";

constexpr PublishedShape kShapes[] = {
    {"glm-4-9b", kGlm4},
    {"glm-10b", kGlm10b},
    {"glm-edge-1.5b", kEdge},
    {"glm-4.5-air", kAir},
    {"glm-4.5-air-layer", kAir, 1, 512},
};

const PublishedShape& find_shape(const std::string& name) {
  for (const PublishedShape& shape : kShapes)
    if (shape.name == name) return shape;
  fail(ErrorKind::kConfig, fmt::format("no shape '{}'; there are {}", name,
                                       fmt::join(published_shapes(), ", ")));
}

// The last blocks, since the first ones of mixtures are dense.
void cut_to_slice(Architecture& a, const PublishedShape& shape,
                  std::int64_t layers) {
  const std::int64_t all = a.layers();
  if (layers == 0) layers = shape.layers > 0 ? shape.layers : all;
  if (layers < 1 || layers > all)
    fail(ErrorKind::kConfig,
         fmt::format("{} layers: {} has 1 to {}", layers, shape.name, all));
  // Rows in multiples of 64, as published vocabularies are padded.
  a.vocabulary =
      shape.vocabulary > 0
          ? shape.vocabulary
          : std::max<std::int64_t>(64, a.vocabulary * layers / all / 64 * 64);
  a.blocks.erase(a.blocks.begin(), a.blocks.end() - layers);
}

class RandomWeights {
 public:
  explicit RandomWeights(const RandomWeightOptions& options)
      : options_(options),
        // A fixed pattern is repeated: filling gigabytes would take longer than
        // the measurement.
        codes_(at::empty({kPattern}, at::kInt)),
        values_(at::empty({kPattern}, at::kFloat)) {
    Rng rng(derive_seed(options.seed, "random model"));
    auto* codes = codes_.data_ptr<std::int32_t>();
    auto* values = values_.data_ptr<float>();
    for (std::int64_t i = 0; i < kPattern; ++i) {
      codes[i] = static_cast<std::int32_t>(
          static_cast<std::uint32_t>(rng.below(std::uint64_t{1} << 32)));
      values[i] = static_cast<float>(2 * rng.uniform() - 1);
    }
  }

  at::Tensor dense(at::IntArrayRef shape, double size) const {
    at::Tensor out = at::empty(shape, at::kBFloat16);
    repeat((values_ * size).to(at::kBFloat16), out.view({-1}));
    return out;
  }

  Weight matrix(std::int64_t out, std::int64_t in, int bits,
                std::int64_t group) const {
    // Uniform on +-s has the deviation s / sqrt(3): outputs of unit size.
    const double size = std::sqrt(3.0 / static_cast<double>(in));
    if (bits == 16) return DenseWeight{dense({out, in}, size)};
    if (group == 0) group = in;
    if (in % group != 0)
      fail(ErrorKind::kConfig,
           fmt::format("groups of {} do not divide {} columns", group, in));
    QuantizedWeight weight;
    weight.out = out;
    weight.in = in;
    weight.bits = bits;
    weight.group_size = group;
    weight.codes = at::empty({out, (in * bits + 31) / 32}, at::kInt);
    repeat(codes_, weight.codes.view({-1}));
    weight.scales = at::full({out, in / group}, std::ldexp(size, 1 - bits),
                             at::TensorOptions(at::kBFloat16));
    return weight;
  }

 private:
  // Odd, so that rows do not repeat each other.
  static constexpr std::int64_t kPattern = (1 << 22) + 3;

  static void repeat(const at::Tensor& pattern, const at::Tensor& into) {
    for (std::int64_t at = 0; at < into.numel(); at += kPattern) {
      const std::int64_t count = std::min(kPattern, into.numel() - at);
      into.narrow(0, at, count).copy_(pattern.narrow(0, 0, count));
    }
  }

  const RandomWeightOptions& options_;
  at::Tensor codes_, values_;
};

// Gains are 1, biases and the router's corrections 0.
at::Tensor other_tensor(const RandomWeights& random, const std::string& name,
                        const std::vector<std::int64_t>& shape) {
  const at::TensorOptions bf16(at::kBFloat16);
  if (name.ends_with("bias")) return at::zeros(shape, bf16);
  if (shape.size() == 1) return at::ones(shape, bf16);
  return random.dense(shape,
                      std::sqrt(3.0 / static_cast<double>(shape.back())));
}

Block random_block(const Architecture& a, std::size_t layer, PartBits bits,
                   const RandomWeights& random,
                   const RandomWeightOptions& options) {
  Block block;
  const BlockShapes shapes = block_shapes(a, layer);
  for (const auto& matrix : shapes.matrices) {
    Linear* linear = find_linear(block, matrix.name);
    AUTOGLM_ENSURE(linear != nullptr);
    linear->weight = random.matrix(
        matrix.out, matrix.in,
        matrix.name.starts_with("attention.") ? bits.attention : bits.mlp,
        options.group_size);
    if (matrix.bias) linear->bias = at::zeros({matrix.out}, at::kBFloat16);
  }
  for (const auto& other : shapes.others) {
    at::Tensor* tensor = find_tensor(block, other.name);
    AUTOGLM_ENSURE(tensor != nullptr);
    *tensor = other_tensor(random, other.name, other.shape);
  }
  return block;
}

}  // namespace

std::vector<std::string> published_shapes() {
  std::vector<std::string> names;
  for (const PublishedShape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

Model random_model(const Architecture& architecture,
                   const std::vector<PartBits>& bits,
                   const RandomWeightOptions& options) {
  AUTOGLM_ENSURE(bits.size() == architecture.blocks.size());
  Model model;
  model.architecture = architecture;
  const Architecture& a = model.architecture;
  const RandomWeights random(options);
  model.embedding = random.matrix(a.vocabulary, a.hidden, options.head_bits, 0);
  const double position_size = 0.02;
  if (a.position_rows > 0)
    model.positions = random.dense({a.position_rows, a.hidden}, position_size);
  if (a.block_positions)
    model.block_positions =
        random.dense({a.position_rows, a.hidden}, position_size);
  for (std::size_t i = 0; i < a.blocks.size(); ++i) {
    check_interrupted();
    model.blocks.push_back(random_block(a, i, bits[i], random, options));
  }
  model.final_norm.gain = at::ones({a.hidden}, at::kBFloat16);
  if (a.layer_norm)
    model.final_norm.bias = at::zeros({a.hidden}, at::kBFloat16);
  if (!a.tied_head)
    model.head =
        Linear{random.matrix(a.vocabulary, a.hidden, options.head_bits, 0), {}};
  verify_model(model);
  return model;
}

Model random_model(const std::string& name, const RandomModelOptions& options) {
  const PublishedShape& shape = find_shape(name);
  const Json config = Json::parse(shape.config);
  Architecture architecture = read_architecture(config, name);
  cut_to_slice(architecture, shape, options.layers);
  architecture.root = std::string(architecture.family->roots[0]);
  Model model =
      random_model(architecture,
                   std::vector<PartBits>(architecture.blocks.size(),
                                         {options.bits, options.bits}),
                   options);
  model.config = config;
  return model;
}

}  // namespace autoglm
