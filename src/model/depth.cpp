#include "autoglm/model/depth.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"

namespace autoglm {
namespace {

constexpr const char* kMlpTypes = "mlp_layer_types";
constexpr const char* kIndexerTypes = "indexer_types";

using Layers = std::vector<std::size_t>;

bool contains(const Layers& removed, std::size_t layer) {
  return std::binary_search(removed.begin(), removed.end(), layer);
}

// Entries after those of the blocks belong to what follows the last block.
template <class List>
List without_entries(const List& list, const Layers& removed) {
  List out;
  for (std::size_t i = 0; i < list.size(); ++i)
    if (!contains(removed, i)) out.push_back(list[i]);
  return out;
}

Json without_entries(const Json& list, const Layers& removed) {
  Json out = Json::array();
  for (std::size_t i = 0; i < list.size(); ++i)
    if (!contains(removed, i)) out.push_back(list[i]);
  return out;
}

// Dense blocks come first: their count, and where a stock loader reads the
// list alone (those of latent attention), a list that says the same.
void update_mixture(Json& config, const Architecture& a,
                    const Layers& removed) {
  constexpr const char* kFirst = "first_k_dense_replace";
  const std::int64_t first =
      config.contains(kFirst) && config[kFirst].is_number_integer()
          ? config[kFirst].get<std::int64_t>()
          : 1;
  std::int64_t left = first;
  for (const std::size_t layer : removed)
    if (static_cast<std::int64_t>(layer) < first) --left;
  if (config.contains(kFirst) || left != first) config[kFirst] = left;
  if (!a.family->latent || config.contains(kMlpTypes)) return;
  Json kinds = Json::array();
  const std::int64_t count =
      a.layers() - static_cast<std::int64_t>(removed.size());
  for (std::int64_t i = 0; i < count; ++i)
    kinds.push_back(i < left ? "dense" : "sparse");
  config[kMlpTypes] = std::move(kinds);
}

void update_config(Json& config, const Architecture& a, const Layers& removed) {
  // Before the lists change: without one the count is what holds.
  if (a.family->mixture) update_mixture(config, a, removed);
  const auto old = static_cast<std::size_t>(a.layers());
  for (const char* key : {"layer_types", kMlpTypes, kIndexerTypes})
    if (config.contains(key) && config[key].is_array() &&
        config[key].size() >= old)
      config[key] = without_entries(config[key], removed);
  if (a.is_sparse() && !config.contains(kIndexerTypes)) {
    Json kinds = Json::array();
    for (const bool fresh : without_entries(a.indexer.fresh, removed))
      kinds.push_back(fresh ? "full" : "shared");
    config[kIndexerTypes] = std::move(kinds);
  }
}

// The layer a tensor belongs to, and where its number stands in the name.
struct LayerName {
  std::size_t layer, begin, end;
};
std::optional<LayerName> layer_of(const Architecture& a,
                                  const std::string& name) {
  std::string prefix = block_prefix(a, 0);  // "model.layers.0."
  prefix.resize(prefix.size() - 2);
  if (!name.starts_with(prefix)) return std::nullopt;
  const char* begin = name.data() + prefix.size();
  LayerName out{};
  const auto [end, error] =
      std::from_chars(begin, name.data() + name.size(), out.layer);
  if (error != std::errc()) return std::nullopt;
  out.begin = prefix.size();
  out.end = static_cast<std::size_t>(end - name.data());
  return out;
}

std::map<std::string, at::Tensor> renumbered(
    const std::map<std::string, at::Tensor>& extra, const Architecture& a,
    const Layers& removed) {
  std::map<std::string, at::Tensor> out;
  for (const auto& [name, tensor] : extra) {
    const std::optional<LayerName> place = layer_of(a, name);
    if (!place) {
      out[name] = tensor;
    } else if (!contains(removed, place->layer)) {
      const auto before =
          std::lower_bound(removed.begin(), removed.end(), place->layer) -
          removed.begin();
      std::string own = name;
      own.replace(
          place->begin, place->end - place->begin,
          std::to_string(place->layer - static_cast<std::size_t>(before)));
      out[own] = tensor;
    }
  }
  return out;
}

}  // namespace

const char* part_name(BlockPart part) {
  return part == BlockPart::kAttention ? "attention" : "mlp";
}

bool has_part(const Block& block, BlockPart part) {
  return part == BlockPart::kAttention ? block.has_attention()
                                       : block.has_mlp();
}

Block without_part(Block block, BlockPart part) {
  if (part == BlockPart::kAttention) {
    block.attention = {};
    block.input_norm = block.after_attention_norm = {};
  } else {
    block.mlp = {};
    block.mixture = {};
    block.middle_norm = block.after_mlp_norm = {};
  }
  return block;
}

bool can_remove_blocks(const Architecture& a, const Layers& removed) {
  if (removed.size() >= a.blocks.size()) return false;
  std::size_t first = 0;
  while (contains(removed, first)) ++first;
  return !a.is_sparse() || a.indexer.fresh.at(first);
}

Model without_blocks(const Model& model, const Layers& removed) {
  AUTOGLM_ENSURE(std::is_sorted(removed.begin(), removed.end()) &&
                 can_remove_blocks(model.architecture, removed));
  if (removed.empty()) return model;
  Model out = model;
  Architecture& a = out.architecture;
  out.blocks = without_entries(model.blocks, removed);
  update_config(out.config, model.architecture, removed);
  out.extra = renumbered(model.extra, model.architecture, removed);
  a.blocks = without_entries(a.blocks, removed);
  if (a.is_sparse())
    a.indexer.fresh = without_entries(a.indexer.fresh, removed);
  return out;
}

Model without_next_token_blocks(Model model) {
  Architecture& a = model.architecture;
  std::erase_if(model.extra, [&](const auto& entry) {
    const std::optional<LayerName> place = layer_of(a, entry.first);
    return place && place->layer >= a.blocks.size();
  });
  a.next_token_blocks = 0;
  constexpr const char* kCount = "num_nextn_predict_layers";
  if (model.config.contains(kCount)) model.config[kCount] = 0;
  for (const char* key : {"layer_types", kMlpTypes, kIndexerTypes})
    if (model.config.contains(key) && model.config[key].is_array()) {
      auto& list = model.config[key].get_ref<Json::array_t&>();
      list.resize(std::min(list.size(), a.blocks.size()));
    }
  return model;
}

}  // namespace autoglm
