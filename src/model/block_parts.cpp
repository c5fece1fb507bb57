#include "autoglm/model/block_parts.h"

#include <array>
#include <charconv>
#include <optional>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

// "mlp.experts.7.down" -> 7 and "down".
std::optional<std::pair<std::size_t, std::string_view>> expert_part(
    std::string_view name) {
  constexpr std::string_view kPrefix = "mlp.experts.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  std::size_t expert = 0;
  const auto [end, error] =
      std::from_chars(name.data(), name.data() + name.size(), expert);
  name.remove_prefix(static_cast<std::size_t>(end - name.data()));
  if (error != std::errc() || name.size() < 2 || name[0] != '.')
    return std::nullopt;
  return std::pair(expert, name.substr(1));
}

Linear* find_mlp_linear(Mlp& mlp, std::string_view name) {
  if (name == "gate_up") return &mlp.gate_up;
  if (name == "gate") return &mlp.gate;
  if (name == "up") return &mlp.up;
  if (name == "down") return &mlp.down;
  return nullptr;
}

struct AttentionPart {
  std::string_view name;
  Linear Attention::*part;
};
constexpr std::array<AttentionPart, 9> kAttentionParts = {{
    {"query", &Attention::query},
    {"key", &Attention::key},
    {"value", &Attention::value},
    {"query_key_value", &Attention::query_key_value},
    {"query_a", &Attention::query_a},
    {"query_b", &Attention::query_b},
    {"key_value_a", &Attention::key_value_a},
    {"key_value_b", &Attention::key_value_b},
    {"output", &Attention::output},
}};

std::string_view mapped(const FamilyTable& family, std::string_view name) {
  for (const auto& [own, stored] : family.names)
    if (own == name) return stored;
  fail(ErrorKind::kInternal,
       fmt::format("a {} model has no part '{}'", family.name, name));
}

// Collects shapes under the family's own list of parts.
class Shapes {
 public:
  Shapes(const Architecture& a, const BlockWidths& w) : a_(a), w_(w) {}

  BlockShapes collect() {
    if (w_.has_attention()) {
      norm("input_norm", a_.hidden);
      if (a_.is_latent())
        latent_attention();
      else
        grouped_attention();
      family_norm("after_attention_norm");
    }
    if (w_.has_mlp()) {
      family_norm("middle_norm");
      family_norm("after_mlp_norm");
      if (w_.experts > 0)
        mixture();
      else
        mlp("mlp.", w_.ffn);
    }
    return std::move(out_);
  }

 private:
  void matrix(const std::string& name, std::int64_t out, std::int64_t in,
              bool bias) {
    out_.matrices.push_back({name, out, in, bias});
  }
  void vector(const std::string& name, std::vector<std::int64_t> shape) {
    out_.others.push_back({name, std::move(shape)});
  }
  void norm(const std::string& name, std::int64_t size) {
    vector(name + ".weight", {size});
    if (a_.layer_norm) vector(name + ".bias", {size});
  }
  void family_norm(const char* name) {
    if (a_.family->has(name)) norm(name, a_.hidden);
  }

  void grouped_attention() {
    const std::int64_t query = w_.query_heads * a_.head_size;
    const std::int64_t key = w_.kv_heads * a_.head_size;
    if (a_.family->has("attention.query_key_value")) {
      matrix("attention.query_key_value", query + 2 * key, a_.hidden,
             a_.attention_bias);
    } else {
      matrix("attention.query", query, a_.hidden, a_.attention_bias);
      matrix("attention.key", key, a_.hidden, a_.attention_bias);
      matrix("attention.value", key, a_.hidden, a_.attention_bias);
    }
    if (a_.qk_norm) {
      vector("attention.query_norm.weight", {a_.head_size});
      vector("attention.key_norm.weight", {a_.head_size});
    }
    matrix("attention.output", a_.hidden, query, a_.linear_bias);
  }

  void latent_attention() {
    const LatentSizes& l = a_.latent;
    const std::int64_t query = w_.query_heads * a_.head_size;
    if (l.query_rank > 0) {
      matrix("attention.query_a", l.query_rank, a_.hidden, a_.attention_bias);
      vector("attention.query_a_norm.weight", {l.query_rank});
      matrix("attention.query_b", query, l.query_rank, false);
    } else {
      matrix("attention.query", query, a_.hidden, false);
    }
    matrix("attention.key_value_a", l.kv_rank + l.rope, a_.hidden,
           a_.attention_bias);
    vector("attention.key_value_a_norm.weight", {l.kv_rank});
    matrix("attention.key_value_b", w_.query_heads * (l.nope + a_.value_size),
           l.kv_rank, false);
    matrix("attention.output", a_.hidden, w_.query_heads * a_.value_size,
           a_.attention_bias);
  }

  void mlp(const std::string& prefix, std::int64_t ffn) {
    if (a_.family->mlp == MlpKind::kGateUp)
      matrix(prefix + "gate_up", 2 * ffn, a_.hidden, a_.linear_bias);
    if (a_.family->mlp == MlpKind::kGated)
      matrix(prefix + "gate", ffn, a_.hidden, a_.linear_bias);
    if (a_.family->mlp != MlpKind::kGateUp)
      matrix(prefix + "up", ffn, a_.hidden, a_.linear_bias);
    matrix(prefix + "down", a_.hidden, ffn, a_.linear_bias);
  }

  void mixture() {
    vector("mlp.router.weight", {w_.experts, a_.hidden});
    vector("mlp.router.correction_bias", {w_.experts});
    for (std::int64_t e = 0; e < w_.experts; ++e)
      mlp(fmt::format("mlp.experts.{}.", e), w_.ffn);
    if (w_.shared_ffn > 0) mlp("mlp.shared.", w_.shared_ffn);
  }

  const Architecture& a_;
  const BlockWidths& w_;
  BlockShapes out_;
};

}  // namespace

BlockShapes block_shapes(const Architecture& a, std::size_t layer) {
  BlockShapes out = Shapes(a, a.blocks.at(layer)).collect();
  if (a.is_sparse() && a.indexer.fresh.at(layer) &&
      a.blocks.at(layer).has_attention()) {
    const IndexerSizes& x = a.indexer;
    const auto add = [&](const char* name, std::vector<std::int64_t> shape) {
      out.others.push_back(
          {std::string("attention.indexer.") + name, std::move(shape)});
    };
    add("query.weight", {x.heads * x.size, a.latent.query_rank});
    add("key.weight", {x.size, a.hidden});
    add("key_norm.weight", {x.size});
    add("key_norm.bias", {x.size});
    add("head_weights.weight", {x.heads, a.hidden});
  }
  return out;
}

Linear* find_linear(Block& block, std::string_view name) {
  if (const auto expert = expert_part(name)) {
    auto& experts = block.mixture.experts;
    if (expert->first >= experts.size()) experts.resize(expert->first + 1);
    return find_mlp_linear(experts[expert->first], expert->second);
  }
  constexpr std::string_view kAttention = "attention.", kShared = "mlp.shared.",
                             kMlp = "mlp.";
  if (name.starts_with(kAttention)) {
    for (const AttentionPart& part : kAttentionParts)
      if (name.substr(kAttention.size()) == part.name)
        return &(block.attention.*part.part);
    return nullptr;
  }
  if (name.starts_with(kShared))
    return find_mlp_linear(block.mixture.shared, name.substr(kShared.size()));
  if (name.starts_with(kMlp))
    return find_mlp_linear(block.mlp, name.substr(kMlp.size()));
  return nullptr;
}

at::Tensor* find_tensor(Block& block, std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return nullptr;
  const std::string_view module = name.substr(0, dot);
  const std::string_view end = name.substr(dot + 1);
  Indexer& indexer = block.attention.indexer;
  const std::pair<std::string_view, at::Tensor*> tensors[] = {
      {"mlp.router", end == "correction_bias" ? &block.mixture.correction_bias
                                              : &block.mixture.router},
      {"attention.indexer.query", &indexer.query},
      {"attention.indexer.key", &indexer.key},
      {"attention.indexer.head_weights", &indexer.head_weights},
  };
  for (const auto& [own, tensor] : tensors)
    if (own == module) return tensor;
  Attention& a = block.attention;
  const std::pair<std::string_view, Norm*> norms[] = {
      {"input_norm", &block.input_norm},
      {"middle_norm", &block.middle_norm},
      {"after_attention_norm", &block.after_attention_norm},
      {"after_mlp_norm", &block.after_mlp_norm},
      {"attention.query_norm", &a.query_norm},
      {"attention.key_norm", &a.key_norm},
      {"attention.query_a_norm", &a.query_a_norm},
      {"attention.key_value_a_norm", &a.key_value_a_norm},
      {"attention.indexer.key_norm", &indexer.key_norm},
  };
  for (const auto& [own, norm] : norms)
    if (own == module) return end == "bias" ? &norm->bias : &norm->gain;
  return nullptr;
}

std::string checkpoint_linear_name(const FamilyTable& family,
                                   std::string_view name) {
  if (const auto expert = expert_part(name))
    return fmt::format(
        fmt::runtime(
            mapped(family, fmt::format("mlp.experts.{{}}.{}", expert->second))),
        expert->first);
  return std::string(mapped(family, name));
}

std::string checkpoint_tensor_name(const FamilyTable& family,
                                   std::string_view name) {
  const std::size_t dot = name.rfind('.');
  const std::string_view end = name.substr(dot + 1);
  return fmt::format(
      "{}.{}", mapped(family, name.substr(0, dot)),
      end == "correction_bias" ? "e_score_correction_bias" : end);
}

std::string block_prefix(const Architecture& a, std::size_t layer) {
  return a.root + fmt::format(fmt::runtime(a.family->block), layer) + ".";
}

}  // namespace autoglm
