#include "model/layer_config.h"

#include <algorithm>
#include <array>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

constexpr const char* kLayerConfig = "per_layer_config";
constexpr const char* kSkip = "skip";

using Width = std::int64_t BlockWidths::*;

// The keys of one kind of block, with what they set.
std::vector<std::pair<std::string, Width>> width_keys(
    const FamilyTable& family, const BlockWidths& block) {
  std::vector<std::pair<std::string, Width>> out = {
      {std::string(family.keys.query_heads), &BlockWidths::query_heads}};
  if (!family.keys.kv_heads.empty())
    out.emplace_back(family.keys.kv_heads, &BlockWidths::kv_heads);
  if (block.experts == 0) {
    out.emplace_back(family.keys.ffn, &BlockWidths::ffn);
  } else {
    out.emplace_back("moe_intermediate_size", &BlockWidths::ffn);
    out.emplace_back("n_routed_experts", &BlockWidths::experts);
    out.emplace_back(kSharedFfnKey, &BlockWidths::shared_ffn);
  }
  return out;
}

// Does the width belong to a part that is not there?
bool skips(const BlockWidths& w, Width field) {
  const bool heads =
      field == &BlockWidths::query_heads || field == &BlockWidths::kv_heads;
  return heads ? !w.has_attention() : !w.has_mlp();
}

void check_widths(const BlockWidths& w, bool mixture, const RouterRule& router,
                  std::size_t layer, const std::string& source) {
  // Far beyond any model; keeps products in range.
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  const auto possible = [](std::int64_t width) {
    return width >= 1 && width <= kMost;
  };
  if (!possible(w.query_heads) || !possible(w.kv_heads) || !possible(w.ffn) ||
      w.shared_ffn < 0 || w.shared_ffn > kMost ||
      w.query_heads % w.kv_heads != 0)
    fail(ErrorKind::kInput,
         fmt::format("{}: layer {} has {} query heads, {} key/value heads and "
                     "FFN width {}, which is not possible",
                     source, layer, w.query_heads, w.kv_heads, w.ffn));
  if (mixture &&
      (w.experts < 1 || w.experts > 65536 || w.experts % router.groups != 0 ||
       (router.groups > 1 && w.experts / router.groups < 2) ||
       router.per_token > w.experts / router.groups * router.kept_groups))
    fail(ErrorKind::kInput,
         fmt::format("{}: layer {} has {} experts, of which a token cannot "
                     "use {}",
                     source, layer, w.experts, router.per_token));
}

// Sets the widths of the parts that a layer's entry names to 0.
void skip_parts(const Json& entry, const std::string& layer,
                const std::string& source, BlockWidths& w) {
  if (!entry.contains(kSkip) || entry[kSkip].is_null()) return;
  const Json& parts = entry[kSkip];
  for (const Json& part : parts) {
    if (part == "attention")
      w.query_heads = w.kv_heads = 0;
    else if (part == "mlp")
      w.ffn = w.experts = w.shared_ffn = 0;
    else
      fail(ErrorKind::kInput,
           fmt::format("{}: {} of layer {} names {}; a layer can skip "
                       "\"attention\" and \"mlp\"",
                       source, kSkip, layer, part.dump()));
  }
  if (!parts.is_array())
    fail(ErrorKind::kInput, fmt::format("{}: {} of layer {} should be a list",
                                        source, kSkip, layer));
}

BlockWidths widest(const Architecture& a, bool mixture) {
  BlockWidths most;
  for (const BlockWidths& w : a.blocks) {
    if ((w.experts > 0) != mixture) continue;
    for (const Width field :
         {&BlockWidths::query_heads, &BlockWidths::kv_heads, &BlockWidths::ffn,
          &BlockWidths::experts, &BlockWidths::shared_ffn})
      most.*field = std::max(most.*field, w.*field);
  }
  return most;
}

// Only what changes is touched: an unchanged file keeps its own spelling.
void set(Json& config, const std::string& key, std::int64_t value) {
  if (!config.contains(key) || config[key] != value) config[key] = value;
}

void write_heads(Json& config, const Architecture& a, const BlockWidths& most) {
  const ConfigKeys& keys = a.family->keys;
  set(config, std::string(keys.query_heads), most.query_heads);
  // A file without the key means as many as query heads.
  const std::string kv(keys.kv_heads);
  if (!kv.empty() && a.qkv != QkvLayout::kPerHead &&
      (config.contains(kv) || most.kv_heads != most.query_heads))
    set(config, kv, most.kv_heads);
  // Loaders that lack the key divide hidden_size by the heads, which is wrong
  // once heads are gone.
  const std::string size(keys.head_size);
  if (!a.is_latent() &&
      (config.contains(size) || a.head_size * most.query_heads != a.hidden))
    set(config, size, a.head_size);
}

void write_mixture(Json& config, const BlockWidths& most) {
  set(config, "moe_intermediate_size", most.ffn);
  set(config, "n_routed_experts", most.experts);
  const std::int64_t count =
      config.contains("n_shared_experts") &&
              config["n_shared_experts"].is_number()
          ? config["n_shared_experts"].get<std::int64_t>()
          : 0;
  config.erase(kSharedFfnKey);
  if (most.shared_ffn != count * most.ffn)
    config[kSharedFfnKey] = most.shared_ffn;
}

}  // namespace

void read_layer_config(const Json& config, const std::string& source,
                       Architecture& out) {
  std::vector<bool> mixture;  // the kind of a layer stays as it is
  for (const BlockWidths& w : out.blocks) mixture.push_back(w.experts > 0);
  if (config.contains(kLayerConfig) && !config[kLayerConfig].is_null()) {
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
      for (const auto& [name, field] : width_keys(*out.family, w))
        w.*field = json_int_or(entry, name.c_str(), w.*field, source);
      if (out.qkv == QkvLayout::kPerHead || out.family->keys.kv_heads.empty())
        w.kv_heads = w.query_heads;
    }
  }
  for (std::size_t i = 0; i < out.blocks.size(); ++i)
    check_widths(out.blocks[i], mixture[i], out.router, i, source);
  if (!config.contains(kLayerConfig)) return;
  for (const auto& [key, entry] : config[kLayerConfig].items())
    skip_parts(entry, key, source, out.blocks[std::stoul(key)]);
  // A cache counts its tokens where they are attended to.
  if (std::none_of(out.blocks.begin(), out.blocks.end(),
                   [](const BlockWidths& w) { return w.has_attention(); }))
    fail(ErrorKind::kInput,
         fmt::format("{}: no layer has an attention", source));
}

Json write_architecture(Json config, const Architecture& a) {
  const FamilyTable& family = *a.family;
  const BlockWidths dense = widest(a, false), mixture = widest(a, true);
  BlockWidths most = dense;
  most.query_heads = std::max(dense.query_heads, mixture.query_heads);
  most.kv_heads = std::max(dense.kv_heads, mixture.kv_heads);
  set(config, std::string(family.keys.layers), a.layers());
  set(config, "hidden_size", a.hidden);
  write_heads(config, a, most);
  // GLM 2021 has no such key: its width is four times the hidden size.
  const std::string ffn(family.keys.ffn);
  if (dense.ffn > 0 && (config.contains(ffn) || dense.ffn != 4 * a.hidden))
    set(config, ffn, dense.ffn);
  if (mixture.experts > 0) write_mixture(config, mixture);
  if (a.kv_cache_bits > 0)
    set(config, kCacheBitsKey, a.kv_cache_bits);
  else
    config.erase(kCacheBitsKey);
  config.erase(kLayerConfig);
  if (a.uniform()) return config;
  Json layers = Json::object();
  for (std::size_t i = 0; i < a.blocks.size(); ++i) {
    const BlockWidths& w = a.blocks[i];
    BlockWidths ordinary = w.experts > 0 ? mixture : dense;
    ordinary.query_heads = most.query_heads;
    ordinary.kv_heads = most.kv_heads;
    Json entry = Json::object(), skipped = Json::array();
    if (!w.has_attention()) skipped.push_back("attention");
    if (!w.has_mlp()) skipped.push_back("mlp");
    if (!skipped.empty()) entry[kSkip] = std::move(skipped);
    for (const auto& [name, field] : width_keys(family, w))
      if (w.*field != ordinary.*field && !skips(w, field))
        entry[name] = w.*field;
    if (!entry.empty()) layers[std::to_string(i)] = std::move(entry);
  }
  config[kLayerConfig] = std::move(layers);
  return config;
}

}  // namespace autoglm
