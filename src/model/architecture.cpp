// config.json -> Architecture.
#include "autoglm/model/architecture.h"

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "model/layer_config.h"

namespace autoglm {
namespace {

const FamilyTable& detect_family(const Json& config,
                                 const std::string& source) {
  const std::string type = json_string(config, "model_type", source);
  std::vector<std::string> types;
  for (const FamilyTable& table : family_tables()) {
    if (type == table.model_type && (!table.claims || table.claims(config)))
      return table;
    const std::string known(table.model_type);
    if (std::find(types.begin(), types.end(), known) == types.end())
      types.push_back(known);
  }
  fail(ErrorKind::kInput,
       fmt::format("{}: unsupported model_type {}; supported: {}", source, type,
                   fmt::join(types, ", ")));
}

// The fields of one config.json.
class Reader {
 public:
  Reader(const Json& config, const std::string& source)
      : config_(config), source_(source) {}

  [[noreturn]] void complain(const std::string& text) const {
    fail(ErrorKind::kInput, source_ + ": " + text);
  }
  bool has(std::string_view key) const {
    return !key.empty() && config_.contains(key) && !config_[key].is_null();
  }
  const Json& operator[](const char* key) const { return config_[key]; }

  // 2^31 rows or columns is far beyond any model and keeps products in range.
  std::int64_t size(std::string_view key) const {
    return checked(key, json_int(config_, key.data(), source_), 1);
  }
  std::int64_t size_or(std::string_view key, std::int64_t fallback,
                       std::int64_t least = 1) const {
    return has(key)
               ? checked(key, json_int(config_, key.data(), source_), least)
               : fallback;
  }
  double number_or(std::string_view key, double fallback) const {
    return has(key) ? json_double(config_, key.data(), source_) : fallback;
  }
  bool flag_or(const char* key, bool fallback) const {
    return has(key) ? json_bool_or(config_, key, fallback, source_) : fallback;
  }
  // For a choice that this program does not implement.
  void demand(const char* key, bool wanted) const {
    if (flag_or(key, wanted) != wanted)
      complain(fmt::format("{} {} is not supported", key, !wanted));
  }
  const Json& json() const { return config_; }
  const std::string& source() const { return source_; }

 private:
  std::int64_t checked(std::string_view key, std::int64_t value,
                       std::int64_t least) const {
    if (value < least || value > (std::int64_t{1} << 31))
      complain(fmt::format("{} is {}, which is not possible", key, value));
    return value;
  }
  const Json& config_;
  const std::string& source_;
};

void check_rope_type(const Reader& config, const Json& settings) {
  for (const char* key : {"rope_type", "type"})
    if (settings.contains(key) && settings[key].is_string() &&
        settings[key] != "default")
      config.complain(fmt::format("rope scaling '{}' is not supported yet",
                                  settings[key].get<std::string>()));
}

void read_rope(const Reader& config, Architecture& out) {
  const FamilyTable& family = *out.family;
  out.rotary = family.rotary;
  if (out.rotary == Rotary::kNone) return;
  // transformers 5 nests the settings, 4 has them at the top.
  const bool nested =
      config.has("rope_parameters") && config["rope_parameters"].is_object();
  const Reader rope(nested ? config["rope_parameters"] : config.json(),
                    config.source());
  const auto setting = [&](const char* key, double fallback) {
    return rope.number_or(key, config.number_or(key, fallback));
  };
  out.rotary_base =
      setting("rope_theta", 10000) * config.number_or("rope_ratio", 1);
  const double share = setting("partial_rotary_factor", family.rotary_share);
  if (!(out.rotary_base > 0) || !(share >= 0 && share <= 1))
    config.complain(
        fmt::format("rope_theta {} with partial_rotary_factor {} is not "
                    "possible",
                    out.rotary_base, share));
  out.rotary_size = out.is_latent()
                        ? out.latent.rope
                        : static_cast<std::int64_t>(
                              static_cast<double>(out.head_size) * share);
  const std::int64_t unit = out.rotary == Rotary::kTwoDimensional ? 4 : 2;
  if (out.rotary_size % unit != 0)
    config.complain(
        fmt::format("{} rotary dimensions do not form pairs", out.rotary_size));
  if (!config.flag_or("original_rope", true) ||
      !config.flag_or("rope_interleave", true))
    out.rotary = Rotary::kHalf;
  if (nested) check_rope_type(config, rope.json());
  if (config.has("rope_scaling") && config["rope_scaling"].is_object())
    check_rope_type(config, config["rope_scaling"]);
}

std::vector<std::int64_t> read_ids(const Reader& config, const char* key) {
  if (!config.has(key)) return {};
  const Json& value = config[key];
  if (value.is_number_integer()) return {value.get<std::int64_t>()};
  std::vector<std::int64_t> ids;
  for (const Json& id : value) {
    if (!id.is_number_integer())
      config.complain(
          fmt::format("{} should be an integer or a list of them", key));
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

void read_heads(const Reader& config, Architecture& out, BlockWidths& all) {
  const ConfigKeys& keys = out.family->keys;
  out.qkv = out.family->qkv;
  all.query_heads = config.size(keys.query_heads);
  all.kv_heads = all.query_heads;
  if (config.flag_or("multi_query_attention", true)) {
    if (!keys.kv_heads.empty() && !out.family->latent)
      all.kv_heads = config.size_or(keys.kv_heads, all.query_heads);
  } else {
    // Without groups the published code packs head by head.
    out.qkv = QkvLayout::kPerHead;
  }
  if (out.family->latent) {
    out.latent.query_rank = config.size_or("q_lora_rank", 0, 0);
    out.latent.kv_rank = config.size("kv_lora_rank");
    out.latent.nope = config.size("qk_nope_head_dim");
    out.latent.rope = config.size("qk_rope_head_dim");
    out.head_size = out.latent.nope + out.latent.rope;
    out.value_size = config.size("v_head_dim");
  } else {
    const std::int64_t share = out.hidden / all.query_heads;
    out.head_size = config.size_or(keys.head_size, share, 0);
    out.value_size = out.head_size;
  }
  for (const std::int64_t size : {out.head_size, out.value_size})
    if (size < 1 || size > 65536)
      config.complain(fmt::format("a head size of {} is not possible", size));
}

// The widths of mixture blocks; `dense` are those of the others.
BlockWidths read_mixture(const Reader& config, const BlockWidths& dense,
                         Architecture& out) {
  BlockWidths w = dense;
  w.ffn = config.size("moe_intermediate_size");
  w.experts = config.size("n_routed_experts");
  w.shared_ffn = config.size_or(
      kSharedFfnKey, config.size_or("n_shared_experts", 0, 0) * w.ffn, 0);
  RouterRule& rule = out.router;
  rule.per_token = config.size("num_experts_per_tok");
  rule.groups = config.size_or("n_group", 1);
  rule.kept_groups = config.size_or("topk_group", 1);
  rule.normalize = config.flag_or("norm_topk_prob", true);
  rule.scale = config.number_or("routed_scaling_factor", 1);
  if (w.experts > 65536 || w.experts % rule.groups != 0 ||
      rule.kept_groups > rule.groups ||
      rule.per_token > w.experts / rule.groups * rule.kept_groups ||
      (rule.groups > 1 && w.experts / rule.groups < 2))
    config.complain(
        fmt::format("{} of {} experts in {} of {} groups is not possible",
                    rule.per_token, w.experts, rule.kept_groups, rule.groups));
  return w;
}

// One word per layer, such as mlp_layer_types; an empty list when absent.
std::vector<std::string> read_layer_words(const Reader& config, const char* key,
                                          std::size_t layers) {
  std::vector<std::string> out;
  if (!config.has(key)) return out;
  for (const Json& word : config[key])
    out.push_back(word.is_string() ? word.get<std::string>() : "");
  if (!config[key].is_array() || out.size() < layers)
    config.complain(fmt::format("{} should name one kind for each of {} layers",
                                key, layers));
  return out;
}

void read_blocks(const Reader& config, const BlockWidths& dense,
                 std::int64_t layers, Architecture& out) {
  out.blocks.assign(static_cast<std::size_t>(layers), dense);
  if (!out.family->mixture) return;
  const BlockWidths mixture = read_mixture(config, dense, out);
  const auto kinds =
      read_layer_words(config, "mlp_layer_types", out.blocks.size());
  const std::int64_t first = config.size_or("first_k_dense_replace", 1, 0);
  for (std::size_t i = 0; i < out.blocks.size(); ++i)
    if (kinds.empty() ? static_cast<std::int64_t>(i) >= first
                      : kinds[i] != "dense")
      out.blocks[i] = mixture;
  out.next_token_blocks = config.size_or("num_nextn_predict_layers", 0, 0);
}

void read_indexer(const Reader& config, Architecture& out) {
  if (!out.family->sparse) return;
  if (out.latent.query_rank == 0)
    config.complain("q_lora_rank is missing, which the indexer needs");
  out.indexer.heads = config.size("index_n_heads");
  out.indexer.size = config.size("index_head_dim");
  out.indexer.top = config.size("index_topk");
  config.demand("indexer_rope_interleave", true);
  if (out.indexer.size < out.latent.rope)
    config.complain("index_head_dim is smaller than qk_rope_head_dim");
  const auto kinds =
      read_layer_words(config, "indexer_types", out.blocks.size());
  for (std::size_t i = 0; i < out.blocks.size(); ++i)
    out.indexer.fresh.push_back(kinds.empty() || kinds[i] == "full");
  if (!out.indexer.fresh[0])
    config.complain("indexer_types: layer 0 has no earlier layer to share");
}

// What only the published code of 2021 to 2024 has.
void read_variants(const Reader& config, Architecture& out) {
  const FamilyTable& family = *out.family;
  out.attention_bias = config.flag_or("attention_bias", false) ||
                       config.flag_or("add_qkv_bias", false) ||
                       family.linear_bias;
  out.linear_bias =
      family.linear_bias || config.flag_or("add_bias_linear", false);
  if (out.linear_bias) out.attention_bias = true;
  out.layer_norm = family.layer_norm || !config.flag_or("rmsnorm", true);
  config.demand("post_layer_norm", true);
  config.demand("relative_encoding", false);
  if (family.rotary == Rotary::kNone) {
    out.block_positions = config.flag_or("block_position_encoding", true);
    // One row more, so that the last position may be a generated one.
    out.position_rows = out.max_positions + (out.block_positions ? 1 : 0);
  }
  if (family.rotary == Rotary::kTwoDimensional) {
    config.demand("position_encoding_2d", true);
    // The published block keeps its default depth, whatever the model's.
    out.normed_residual = true;
    out.residual_scale = std::sqrt(2.0 * 28.0);
    const auto one = [&](const char* key) { return read_ids(config, key); };
    if (const auto start = one("bos_token_id"); start.size() == 1) {
      out.blank.start = start[0];
      for (const char* key : {"gmask_token_id", "mask_token_id"})
        if (auto ids = one(key); !ids.empty())
          out.blank.masks.push_back(std::move(ids));
    }
  }
  if (config.flag_or("apply_residual_connection_post_layernorm", false))
    out.normed_residual = true;
}

}  // namespace

bool Architecture::uniform() const {
  for (const BlockWidths& w : blocks)
    for (const BlockWidths& other : blocks) {
      // Both kinds share the keys of the heads.
      if (w.query_heads != other.query_heads || w.kv_heads != other.kv_heads)
        return false;
      if ((w.experts > 0) == (other.experts > 0) && w != other) return false;
    }
  return true;
}

Architecture read_architecture(const Json& json, const std::string& source) {
  if (!json.is_object())
    fail(ErrorKind::kInput, source + ": a JSON object was expected");
  const Reader config(json, source);
  Architecture out;
  out.family = &detect_family(json, source);
  const ConfigKeys& keys = out.family->keys;
  out.root = out.family->roots[0];
  out.hidden = config.size("hidden_size");
  out.vocabulary = config.size(keys.vocabulary);
  const std::int64_t layers = config.size(keys.layers);
  if (layers > 100'000)
    config.complain(
        fmt::format("{} is {}, which is not possible", keys.layers, layers));
  out.norm_epsilon = config.number_or(keys.epsilon, keys.default_epsilon);
  out.max_positions = config.size_or(keys.max_positions, 131072);
  if (config.has("hidden_act"))
    if (const std::string act = json_string(json, "hidden_act", source);
        act != "silu" && act != "swish")
      config.complain(fmt::format(
          "hidden_act '{}' is not supported; a GLM uses silu", act));
  BlockWidths dense;
  read_heads(config, out, dense);
  dense.ffn = out.family->keys.ffn == "inner_hidden_size"
                  ? config.size_or(keys.ffn, 4 * out.hidden)
                  : config.size(keys.ffn);
  read_rope(config, out);
  read_variants(config, out);
  out.qk_norm = config.flag_or("use_qk_norm", false);
  out.tied_head =
      out.family->always_tied || config.flag_or("tie_word_embeddings", false);
  out.end_ids = read_ids(config, "eos_token_id");
  out.kv_cache_bits = static_cast<int>(config.size_or(kCacheBitsKey, 0, 0));
  if (out.kv_cache_bits != 0 && out.kv_cache_bits != 4 &&
      out.kv_cache_bits != 8)
    config.complain(
        fmt::format("{} is {}; 4 and 8 are supported, and 0 for a "
                    "cache in full precision",
                    kCacheBitsKey, out.kv_cache_bits));
  read_blocks(config, dense, layers, out);
  read_layer_config(json, source, out);
  read_indexer(config, out);
  return out;
}

}  // namespace autoglm
