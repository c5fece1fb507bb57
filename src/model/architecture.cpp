#include "autoglm/model/architecture.h"

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

constexpr const char* kLayerConfig = "per_layer_config";

FamilyTable glm_table() {
  FamilyTable t = {};
  t.name = "glm";
  t.model_type = "glm";
  // The GLM of 2021 shares the model_type but says num_layers.
  t.marker_key = "num_hidden_layers";
  t.embedding = "model.embed_tokens";
  t.final_norm = "model.norm";
  t.head = "lm_head";
  t.block = "model.layers.{}";
  t.query = "self_attn.q_proj";
  t.key = "self_attn.k_proj";
  t.value = "self_attn.v_proj";
  t.output = "self_attn.o_proj";
  t.gate_up = "mlp.gate_up_proj";
  t.down = "mlp.down_proj";
  t.input_norm = "input_layernorm";
  t.middle_norm = "post_attention_layernorm";
  return t;
}

FamilyTable glm4_table() {
  FamilyTable t = glm_table();
  t.name = "glm4";
  t.model_type = "glm4";
  t.after_attention_norm = "post_self_attn_layernorm";
  t.after_mlp_norm = "post_mlp_layernorm";
  return t;
}

const FamilyTable& detect_family(const Json& config,
                                 const std::string& source) {
  const std::string type = json_string(config, "model_type", source);
  std::vector<std::string> types;
  bool namesake = false;
  for (const FamilyTable& table : family_tables()) {
    types.emplace_back(table.model_type);
    if (type != table.model_type) continue;
    if (config.contains(table.marker_key) || !config.contains("num_layers"))
      return table;
    namesake = true;
  }
  if (namesake)
    fail(ErrorKind::kInput,
         fmt::format("{}: model_type {} with num_layers is the GLM of 2021, "
                     "which is not supported; supported are the families {}",
                     source, type, fmt::join(types, ", ")));
  fail(ErrorKind::kInput,
       fmt::format("{}: unsupported model_type {}; supported: {}", source, type,
                   fmt::join(types, ", ")));
}

std::int64_t positive(const Json& object, const char* key,
                      const std::string& source) {
  const std::int64_t value = json_int(object, key, source);
  // 2^31 rows or columns is far beyond any model and keeps products in range.
  if (value < 1 || value > (std::int64_t{1} << 31))
    fail(ErrorKind::kInput, fmt::format("{}: {} is {}, which is not possible",
                                        source, key, value));
  return value;
}

void read_rope(const Json& config, const std::string& source,
               Architecture& out) {
  // transformers 5 nests the settings, 4 has them at the top.
  const bool nested = config.contains("rope_parameters") &&
                      config["rope_parameters"].is_object();
  const Json& rope = nested ? config["rope_parameters"] : config;
  out.rotary_base = json_double_or(
      rope, "rope_theta", json_double_or(config, "rope_theta", 10000, source),
      source);
  const double partial = json_double_or(
      rope, "partial_rotary_factor",
      json_double_or(config, "partial_rotary_factor", 0.5, source), source);
  if (!(out.rotary_base > 0) || !(partial >= 0 && partial <= 1))
    fail(ErrorKind::kInput,
         fmt::format("{}: rope_theta {} with partial_rotary_factor {} is not "
                     "possible",
                     source, out.rotary_base, partial));
  out.rotary_size =
      static_cast<std::int64_t>(static_cast<double>(out.head_size) * partial);
  if (out.rotary_size % 2 != 0)
    fail(ErrorKind::kInput,
         fmt::format("{}: {} rotary dimensions do not form pairs", source,
                     out.rotary_size));
  const auto check_type = [&](const Json& settings) {
    for (const char* key : {"rope_type", "type"})
      if (settings.contains(key) && settings[key].is_string() &&
          settings[key] != "default")
        fail(ErrorKind::kInput,
             fmt::format("{}: rope scaling '{}' is not supported yet", source,
                         settings[key].get<std::string>()));
  };
  if (nested) check_type(rope);
  if (config.contains("rope_scaling") && config["rope_scaling"].is_object())
    check_type(config["rope_scaling"]);
}

std::vector<std::int64_t> read_end_ids(const Json& config,
                                       const std::string& source) {
  if (!config.contains("eos_token_id") || config["eos_token_id"].is_null())
    return {};
  const Json& value = config["eos_token_id"];
  if (value.is_number_integer()) return {value.get<std::int64_t>()};
  std::vector<std::int64_t> ids;
  for (const Json& id : value) {
    if (!id.is_number_integer())
      fail(ErrorKind::kInput,
           source + ": eos_token_id should be an integer or a list of them");
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

void check_widths(const BlockWidths& w, std::size_t layer,
                  const std::string& source) {
  if (w.query_heads < 1 || w.kv_heads < 1 || w.ffn < 1 ||
      w.query_heads % w.kv_heads != 0)
    fail(ErrorKind::kInput,
         fmt::format("{}: layer {} has {} query heads, {} key/value heads and "
                     "FFN width {}, which is not possible",
                     source, layer, w.query_heads, w.kv_heads, w.ffn));
}

// per_layer_config: {"3": {"intermediate_size": ..., ...}, ...}, the keys of
// transformers' heterogeneous configurations.
void read_layer_config(const Json& config, const std::string& source,
                       Architecture& out) {
  if (!config.contains(kLayerConfig) || config[kLayerConfig].is_null()) return;
  const Json& layers = config[kLayerConfig];
  if (!layers.is_object())
    fail(ErrorKind::kInput,
         fmt::format("{}: {} should be an object", source, kLayerConfig));
  for (const auto& [key, entry] : layers.items()) {
    std::size_t layer = out.blocks.size();
    if (!key.empty() && key.size() < 10 &&
        key.find_first_not_of("0123456789") == std::string::npos)
      layer = std::stoul(key);
    if (layer >= out.blocks.size() || !entry.is_object())
      fail(ErrorKind::kInput,
           fmt::format("{}: {} has an entry '{}', which is no layer of {}",
                       source, kLayerConfig, key, out.blocks.size()));
    BlockWidths& w = out.blocks[layer];
    w.ffn = json_int_or(entry, "intermediate_size", w.ffn, source);
    w.query_heads =
        json_int_or(entry, "num_attention_heads", w.query_heads, source);
    w.kv_heads = json_int_or(entry, "num_key_value_heads", w.kv_heads, source);
  }
}

}  // namespace

const std::vector<FamilyTable>& family_tables() {
  static const std::vector<FamilyTable> tables = {glm_table(), glm4_table()};
  return tables;
}

bool Architecture::uniform() const {
  return std::all_of(blocks.begin(), blocks.end(),
                     [&](const BlockWidths& w) { return w == blocks[0]; });
}

Architecture read_architecture(const Json& config, const std::string& source) {
  if (!config.is_object())
    fail(ErrorKind::kInput, source + ": a JSON object was expected");
  Architecture out;
  out.family = &detect_family(config, source);
  out.hidden = positive(config, "hidden_size", source);
  out.vocabulary = positive(config, "vocab_size", source);
  const std::int64_t layers = positive(config, "num_hidden_layers", source);
  if (layers > 100'000)
    fail(ErrorKind::kInput,
         fmt::format("{}: num_hidden_layers is {}, which is not possible",
                     source, layers));
  BlockWidths all;
  all.query_heads = positive(config, "num_attention_heads", source);
  all.kv_heads =
      json_int_or(config, "num_key_value_heads", all.query_heads, source);
  all.ffn = positive(config, "intermediate_size", source);
  out.head_size =
      json_int_or(config, "head_dim", out.hidden / all.query_heads, source);
  if (out.head_size < 1 || out.head_size > 65536)
    fail(ErrorKind::kInput,
         fmt::format("{}: head_dim is {}, which is not possible", source,
                     out.head_size));
  out.norm_epsilon = json_double_or(config, "rms_norm_eps", 1.5625e-7, source);
  out.attention_bias = json_bool_or(config, "attention_bias", false, source);
  out.tied_head = json_bool_or(config, "tie_word_embeddings", false, source);
  out.max_positions =
      json_int_or(config, "max_position_embeddings", 131072, source);
  if (const std::string act = config.value("hidden_act", std::string("silu"));
      act != "silu" && act != "swish")
    fail(ErrorKind::kInput,
         fmt::format("{}: hidden_act '{}' is not supported; a GLM uses silu",
                     source, act));
  read_rope(config, source, out);
  out.end_ids = read_end_ids(config, source);
  out.blocks.assign(static_cast<std::size_t>(layers), all);
  read_layer_config(config, source, out);
  for (std::size_t i = 0; i < out.blocks.size(); ++i)
    check_widths(out.blocks[i], i, source);
  return out;
}

Json write_architecture(Json config, const Architecture& architecture) {
  BlockWidths most = {0, 0, 0};
  for (const BlockWidths& w : architecture.blocks) {
    most.query_heads = std::max(most.query_heads, w.query_heads);
    most.kv_heads = std::max(most.kv_heads, w.kv_heads);
    most.ffn = std::max(most.ffn, w.ffn);
  }
  const auto set = [&](const char* key, std::int64_t value) {
    if (!config.contains(key) || config[key] != value) config[key] = value;
  };
  set("num_hidden_layers", architecture.layers());
  set("num_attention_heads", most.query_heads);
  // A file without the key means as many as query heads.
  if (config.contains("num_key_value_heads") ||
      most.kv_heads != most.query_heads)
    set("num_key_value_heads", most.kv_heads);
  set("intermediate_size", most.ffn);
  // Loaders that lack head_dim divide hidden_size by the heads, which is
  // wrong once heads are gone.
  if (config.contains("head_dim") ||
      architecture.head_size * most.query_heads != architecture.hidden)
    set("head_dim", architecture.head_size);
  config.erase(kLayerConfig);
  if (architecture.uniform()) return config;
  Json layers = Json::object();
  for (std::size_t i = 0; i < architecture.blocks.size(); ++i) {
    const BlockWidths& w = architecture.blocks[i];
    Json entry = Json::object();
    if (w.ffn != most.ffn) entry["intermediate_size"] = w.ffn;
    if (w.query_heads != most.query_heads)
      entry["num_attention_heads"] = w.query_heads;
    if (w.kv_heads != most.kv_heads) entry["num_key_value_heads"] = w.kv_heads;
    if (!entry.empty()) layers[std::to_string(i)] = std::move(entry);
  }
  config[kLayerConfig] = std::move(layers);
  return config;
}

}  // namespace autoglm
