// The names of a model's matrices and the globs over them.
#include <algorithm>
#include <charconv>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/model.h"

namespace autoglm {
namespace {

// The linear of a canonical name inside a block; null pointer for other names.
Linear* find_block_linear(Model& model, std::string_view name) {
  constexpr std::string_view kPrefix = "layers.";
  if (!name.starts_with(kPrefix)) return nullptr;
  name.remove_prefix(kPrefix.size());
  std::size_t layer = 0;
  const auto [end, error] =
      std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || layer >= model.blocks.size()) return nullptr;
  name.remove_prefix(static_cast<std::size_t>(end - name.data()));
  if (name.size() < 2 || name[0] != '.') return nullptr;
  name.remove_prefix(1);
  Block& block = model.blocks[layer];
  // find_linear would make room for an expert that is not there.
  if (constexpr std::string_view kExperts = "mlp.experts.";
      name.starts_with(kExperts)) {
    std::size_t expert = 0;
    const std::string_view rest = name.substr(kExperts.size());
    if (std::from_chars(rest.data(), rest.data() + rest.size(), expert).ec !=
            std::errc() ||
        expert >= block.mixture.experts.size())
      return nullptr;
  }
  Linear* linear = find_linear(block, name);
  return linear != nullptr && linear->present() ? linear : nullptr;
}

// All names a linear answers to: its own in three spellings and those of the
// block that holds it, so that a pattern may name a block alone.
std::vector<std::string> spellings(const Model& model,
                                   const NamedLinear& linear) {
  std::vector<std::string> out = {linear.name, linear.checkpoint_name,
                                  linear.checkpoint_name + ".weight"};
  if (linear.layer < 0) return out;
  const std::string own = fmt::format("layers.{}", linear.layer);
  std::string stored =
      block_prefix(model.architecture, static_cast<std::size_t>(linear.layer));
  stored.pop_back();  // the dot
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
  const Architecture& a = model.architecture;
  const FamilyTable& family = *a.family;
  std::vector<NamedLinear> out;
  out.push_back({"embedding", a.root + std::string(family.embedding), -1});
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const std::string prefix = block_prefix(a, i);
    const std::string own = fmt::format("layers.{}.", i);
    visit_block(
        model.blocks[i],
        [&](const std::string& name, const Linear&) {
          out.push_back({own + name,
                         prefix + checkpoint_linear_name(family, name),
                         static_cast<std::int64_t>(i)});
        },
        [](const std::string&, const at::Tensor&) {});
  }
  if (model.head) out.push_back({"head", head_name(a), -1});
  return out;
}

std::string head_name(const Architecture& a) {
  return (a.family->head_below_root ? a.root : "") +
         std::string(a.family->head);
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
