// The names of a model's matrices and the globs over them.
#include <algorithm>
#include <array>
#include <charconv>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/model.h"

namespace autoglm {
namespace {

struct BlockLinear {
  const char* name;  // canonical, below layers.N.
  std::string_view FamilyTable::*checkpoint;
  Linear* (*get)(Block&);
};

constexpr std::array<BlockLinear, 6> kBlockLinears = {{
    {"attention.query", &FamilyTable::query,
     [](Block& b) { return &b.attention.query; }},
    {"attention.key", &FamilyTable::key,
     [](Block& b) { return &b.attention.key; }},
    {"attention.value", &FamilyTable::value,
     [](Block& b) { return &b.attention.value; }},
    {"attention.output", &FamilyTable::output,
     [](Block& b) { return &b.attention.output; }},
    {"mlp.gate_up", &FamilyTable::gate_up,
     [](Block& b) { return &b.mlp.gate_up; }},
    {"mlp.down", &FamilyTable::down, [](Block& b) { return &b.mlp.down; }},
}};

std::string block_prefix(const FamilyTable& family, std::int64_t layer) {
  return fmt::format(fmt::runtime(family.block), layer);
}

// The linear of a canonical block name; null pointer for other names.
Linear* find_block_linear(Model& model, std::string_view name) {
  constexpr std::string_view kPrefix = "layers.";
  if (!name.starts_with(kPrefix)) return nullptr;
  name.remove_prefix(kPrefix.size());
  std::size_t layer = 0;
  const auto [end, error] =
      std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || layer >= model.blocks.size()) return nullptr;
  name.remove_prefix(static_cast<std::size_t>(end - name.data()));
  for (const BlockLinear& linear : kBlockLinears)
    if (name.size() > 1 && name[0] == '.' && name.substr(1) == linear.name)
      return linear.get(model.blocks[layer]);
  return nullptr;
}

// All names a linear answers to: its own in three spellings and those of the
// block that holds it, so that a pattern may name a block alone.
std::vector<std::string> spellings(const Model& model,
                                   const NamedLinear& linear) {
  std::vector<std::string> out = {linear.name, linear.checkpoint_name,
                                  linear.checkpoint_name + ".weight"};
  if (linear.layer < 0) return out;
  const std::string own = fmt::format("layers.{}", linear.layer);
  const std::string stored =
      block_prefix(*model.architecture.family, linear.layer);
  const std::string below = linear.name.substr(own.size());
  const std::string stored_below = linear.checkpoint_name.substr(stored.size());
  out.push_back(own);
  out.push_back(stored);
  for (const char* alias : {"encoder.block", "encoder.layers"}) {
    const std::string block = fmt::format("{}.{}", alias, linear.layer);
    out.push_back(block);
    out.push_back(block + below);
    out.push_back(block + stored_below);
    out.push_back(block + stored_below + ".weight");
  }
  return out;
}

}  // namespace

std::vector<NamedLinear> named_linears(const Model& model) {
  const FamilyTable& family = *model.architecture.family;
  std::vector<NamedLinear> out;
  out.push_back({"embedding", std::string(family.embedding), -1});
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    const std::string prefix = block_prefix(family, layer);
    for (const BlockLinear& linear : kBlockLinears)
      out.push_back({fmt::format("layers.{}.{}", layer, linear.name),
                     fmt::format("{}.{}", prefix, family.*linear.checkpoint),
                     layer});
  }
  if (model.head) out.push_back({"head", std::string(family.head), -1});
  return out;
}

Weight& weight_of(Model& model, const std::string& name) {
  if (name == "embedding") return model.embedding;
  if (name == "head" && model.head) return model.head->weight;
  Linear* linear = find_block_linear(model, name);
  if (linear == nullptr)
    fail(ErrorKind::kInternal, "the model has no matrix " + name);
  return linear->weight;
}

const Weight& weight_of(const Model& model, const std::string& name) {
  return weight_of(const_cast<Model&>(model), name);
}

const at::Tensor* bias_of(const Model& model, const std::string& name) {
  if (name == "embedding") return nullptr;
  const at::Tensor* bias = nullptr;
  if (name == "head" && model.head)
    bias = &model.head->bias;
  else if (Linear* linear = find_block_linear(const_cast<Model&>(model), name))
    bias = &linear->bias;
  else
    fail(ErrorKind::kInternal, "the model has no matrix " + name);
  return bias->defined() ? bias : nullptr;
}

std::vector<std::string> select_linears(
    const Model& model, const std::vector<std::string>& patterns) {
  const std::vector<NamedLinear> linears = named_linears(model);
  std::vector<std::vector<std::string>> names;
  for (const NamedLinear& linear : linears)
    names.push_back(spellings(model, linear));
  std::vector<bool> selected(linears.size(), false);
  for (const std::string& pattern : patterns) {
    bool any = false;
    for (std::size_t i = 0; i < linears.size(); ++i) {
      const bool hit = std::any_of(
          names[i].begin(), names[i].end(),
          [&](const auto& name) { return matches_glob(pattern, name); });
      if (hit) selected[i] = any = true;
    }
    if (any) continue;
    std::vector<std::string> candidates = {"encoder.block.*", "layers.*",
                                           "layers.*.mlp.*",
                                           "layers.*.attention.*"};
    for (const auto& spelling : names)
      candidates.insert(candidates.end(), spelling.begin(), spelling.end());
    const std::string near = did_you_mean(pattern, candidates);
    fail(
        ErrorKind::kConfig,
        fmt::format("'{}' matches no layer of this model{}", pattern,
                    near.empty() ? fmt::format("; names look like {}",
                                               linears[linears.size() / 2].name)
                                 : near));
  }
  std::vector<std::string> out;
  for (std::size_t i = 0; i < linears.size(); ++i)
    if (selected[i]) out.push_back(linears[i].name);
  return out;
}

}  // namespace autoglm
