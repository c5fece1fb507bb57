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
  Json activations;  // null: as they are
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
  const ActivationScheme scheme = activations(weight);
  const auto inputs = [&](const char* type) {
    if (!scheme.quantized) return Json();
    return numbers(8, type, true, scheme.dynamic() ? "token" : "tensor", 0,
                   scheme.dynamic());
  };
  if (std::holds_alternative<Float8Weight>(weight)) {
    out.format = "float-quantized";
    out.weights = numbers(8, "float", true, "channel", 0, false);
    out.activations = inputs("float");
    return out;
  }
  const auto& w = std::get<QuantizedWeight>(weight);
  const bool channel = w.group_size == w.in;
  // Others run int8 products from whole bytes alone.
  out.format = scheme.quantized ? "int-quantized" : "pack-quantized";
  out.weights =
      numbers(w.bits, "int", w.symmetric(), channel ? "channel" : "group",
              channel ? 0 : w.group_size, false);
  out.activations = inputs("int");
  return out;
}

Json to_json(const WrittenScheme& scheme,
             const std::vector<std::string>& modules) {
  return {{"targets", modules},
          {"weights", scheme.weights},
          {"input_activations", scheme.activations},
          {"output_activations", nullptr}};
}

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> write_weight(
    const Weight& weight, const std::string& module) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return {{module + ".weight", dense->value}};
  std::vector<std::pair<std::string, at::Tensor>> out;
  const auto add = [&](const char* end, const at::Tensor& tensor) {
    out.emplace_back(module + end, tensor);
  };
  const ActivationScheme scheme = activations(weight);
  if (const auto* float8 = std::get_if<Float8Weight>(&weight)) {
    add(".weight", float8->values);
    add(".weight_scale", float8->scales);
  } else {
    const auto& w = std::get<QuantizedWeight>(weight);
    AUTOGLM_ENSURE(!w.interleaved);
    if (scheme.quantized)
      add(".weight", unpack_codes(w).bitwise_xor(128).view(at::kChar));
    else
      add(".weight_packed", w.codes);
    add(".weight_scale", w.scales);
    if (!scheme.quantized)
      add(".weight_shape",
          at::tensor(std::vector<std::int64_t>{w.out, w.in}, at::kLong));
    if (!w.symmetric())
      add(".weight_zero_point", pack_columns(w.zeros, w.bits));
  }
  if (scheme.quantized && !scheme.dynamic()) add(".input_scale", scheme.scale);
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
