// What is written: the layouts of compressed-tensors, see
// compressed_tensors.cpp.
#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "model/checkpoint/stored_quantization.h"
#include "model/checkpoint/stored_tensors.h"

namespace autoglm {
namespace {

constexpr const char* kConfig = "quantization_config";

// What config.json says about one weight.
struct WrittenScheme {
  std::string format;
  Json weights;
  bool operator==(const WrittenScheme&) const = default;
};

// `group_size` 0: none, as the strategy has it.
Json numbers(int bits, const char* type, bool symmetric, const char* strategy,
             std::int64_t group_size, bool dynamic) {
  Json out = {{"num_bits", bits},
              {"type", type},
              {"symmetric", symmetric},
              {"strategy", strategy}};
  if (group_size > 0) out["group_size"] = group_size;
  out["dynamic"] = dynamic;
  return out;
}

WrittenScheme scheme_of(const Weight& weight) {
  WrittenScheme out;
  if (std::holds_alternative<Float8Weight>(weight)) {
    out.format = "float-quantized";
    out.weights = numbers(8, "float", true, "channel", 0, false);
    return out;
  }
  const auto& w = std::get<QuantizedWeight>(weight);
  const bool channel = w.group_size == w.in;
  out.format = "pack-quantized";
  out.weights =
      numbers(w.bits, "int", w.symmetric(), channel ? "channel" : "group",
              channel ? 0 : w.group_size, false);
  return out;
}

Json to_json(const WrittenScheme& scheme,
             const std::vector<std::string>& modules) {
  return {{"targets", modules},
          {"weights", scheme.weights},
          {"input_activations", nullptr},
          {"output_activations", nullptr}};
}

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> write_weight(
    const Weight& weight, const std::string& module) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return {{module + ".weight", dense->value}};
  if (const auto* float8 = std::get_if<Float8Weight>(&weight))
    return {{module + ".weight", float8->values},
            {module + ".weight_scale", float8->scales}};
  const auto& w = std::get<QuantizedWeight>(weight);
  std::vector<std::pair<std::string, at::Tensor>> out = {
      {module + ".weight_packed", w.codes},
      {module + ".weight_scale", w.scales},
      {module + ".weight_shape",
       at::tensor(std::vector<std::int64_t>{w.out, w.in}, at::kLong)}};
  if (!w.symmetric())
    out.emplace_back(module + ".weight_zero_point",
                     pack_columns(w.zeros, w.bits));
  return out;
}

Json write_quantization_config(Json config, const Model& model) {
  // One group per scheme, in order of first appearance; targets are exact
  // module names, so that no loader has to guess.
  std::vector<std::pair<WrittenScheme, std::vector<std::string>>> groups;
  std::vector<std::string> ignore;
  for (const NamedLinear& linear : named_linears(model)) {
    const Weight& weight = weight_of(model, linear.name);
    if (std::holds_alternative<DenseWeight>(weight)) {
      if (linear.name != "embedding") ignore.push_back(linear.checkpoint_name);
      continue;
    }
    WrittenScheme scheme = scheme_of(weight);
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& g) { return g.first == scheme; });
    if (group == groups.end()) {
      groups.emplace_back(std::move(scheme), std::vector<std::string>());
      group = groups.end() - 1;
    }
    group->second.push_back(linear.checkpoint_name);
  }
  // What the file said about the codes that were read is no longer true.
  if (config.contains("quantization_bit") && config["quantization_bit"] != 0)
    config.erase("quantization_bit");
  if (groups.empty()) {
    config.erase(kConfig);
    return config;
  }
  if (!model.head && !model.architecture.family->head.empty())
    ignore.push_back(head_name(model.architecture));
  // Where layouts differ every group names its own.
  const std::string& first = groups[0].first.format;
  const bool mixed = std::any_of(
      groups.begin(), groups.end(),
      [&](const auto& group) { return group.first.format != first; });
  Json config_groups = Json::object();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    Json& group = config_groups[fmt::format("group_{}", i)];
    group = to_json(groups[i].first, groups[i].second);
    if (mixed) group["format"] = groups[i].first.format;
  }
  config[kConfig] = {{"quant_method", "compressed-tensors"},
                     {"format", mixed ? "mixed-precision" : first},
                     {"quantization_status", "compressed"},
                     {"config_groups", config_groups},
                     {"ignore", ignore}};
  return config;
}

}  // namespace autoglm
