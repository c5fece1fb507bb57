// compressed-tensors: its entry in config.json and its two layouts of weights,
// `pack-quantized` (weight_packed, weight_scale, weight_shape,
// weight_zero_point), which is also what we write, and `int-quantized`.
// https://github.com/vllm-project/compressed-tensors

#include <algorithm>
#include <regex>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "model/checkpoint/stored_quantization.h"
#include "model/checkpoint/stored_tensors.h"

namespace autoglm {
namespace {

constexpr const char* kConfig = "quantization_config";

// The scheme of one weight, as a config group states it.
struct Scheme {
  int bits = 0;
  std::int64_t group_size = 0;  // 0: one scale per row
  bool symmetric = true;
};

Scheme read_scheme(const Json& group, const std::string& where) {
  if (!group.is_object() || !group.contains("weights") ||
      !group["weights"].is_object())
    fail(ErrorKind::kInput, where + ": a group has no weights");
  if (group.contains("input_activations") &&
      !group["input_activations"].is_null())
    fail(ErrorKind::kInput,
         where + ": quantized activations are not supported");
  const Json& weights = group["weights"];
  Scheme scheme;
  scheme.bits = static_cast<int>(json_int(weights, "num_bits", where));
  if (scheme.bits < 2 || scheme.bits > 8)
    fail(ErrorKind::kInput,
         fmt::format("{}: num_bits is {}; 2 to 8 are supported", where,
                     scheme.bits));
  if (weights.contains("type"))
    if (const std::string type = json_string(weights, "type", where);
        type != "int")
      fail(
          ErrorKind::kInput,
          fmt::format("{}: weights of type {} are not supported", where, type));
  scheme.symmetric = json_bool_or(weights, "symmetric", true, where);
  const std::string strategy = json_string(weights, "strategy", where);
  if (strategy == "group") {
    scheme.group_size = json_int(weights, "group_size", where);
    if (scheme.group_size < 1)
      fail(ErrorKind::kInput,
           fmt::format("{}: group_size is {}", where, scheme.group_size));
  } else if (strategy != "channel") {
    fail(ErrorKind::kInput,
         fmt::format("{}: the strategy {} is not supported", where, strategy));
  }
  if (weights.contains("actorder") && !weights["actorder"].is_null() &&
      weights["actorder"] != "weight" && weights["actorder"] != "static")
    fail(ErrorKind::kInput, where + ": actorder is not supported");
  return scheme;
}

// Names of modules, or of their classes, and patterns over them ("re:...").
class Targets {
 public:
  Targets(const Json& list, const std::string& where) {
    if (list.is_null()) return;
    for (const Json& entry : list) {
      if (!entry.is_string())
        fail(ErrorKind::kInput, where + " is not a list of names");
      const std::string name = entry.get<std::string>();
      if (!name.starts_with("re:")) {
        names_.insert(name);
        continue;
      }
      try {
        patterns_.emplace_back(name.substr(3));
      } catch (const std::regex_error&) {
        fail(ErrorKind::kInput,
             fmt::format("{}: the pattern '{}' cannot be read", where, name));
      }
    }
  }

  bool match(const std::string& module) const {
    return names_.contains(module) ||
           std::any_of(patterns_.begin(), patterns_.end(),
                       [&](const std::regex& pattern) {
                         return std::regex_search(
                             module, pattern,
                             std::regex_constants::match_continuous);
                       });
  }

 private:
  std::set<std::string> names_;
  std::vector<std::regex> patterns_;
};

class CompressedTensors : public StoredQuantization {
 public:
  CompressedTensors(const Json& quantization, const std::string& where)
      : ignore_(quantization.value("ignore", Json()), where + ": ignore") {
    const std::string format = json_string(quantization, "format", where);
    if (format != "pack-quantized" && format != "int-quantized")
      fail(ErrorKind::kInput,
           fmt::format("{}: format {} is not supported; pack-quantized and "
                       "int-quantized are",
                       where, format));
    packed_ = format == "pack-quantized";
    if (!quantization.contains("config_groups") ||
        !quantization["config_groups"].is_object())
      fail(ErrorKind::kInput, where + ": config_groups is missing");
    for (const auto& [name, group] : quantization["config_groups"].items()) {
      const Scheme scheme = read_scheme(group, where);
      groups_.push_back(
          {Targets(group.value("targets", Json()), where + ": targets"),
           scheme});
    }
  }

  std::optional<QuantizedWeight> weight(const TensorFolder& folder,
                                        const std::string& module,
                                        std::int64_t out, std::int64_t in,
                                        bool embedding) const override {
    const Scheme* scheme = find(module, embedding);
    // A class target covers the embedding or a module that was left dense.
    if (scheme == nullptr ||
        !folder.contains(module +
                         (packed_ ? ".weight_packed" : ".weight_scale")))
      return std::nullopt;
    QuantizedWeight w;
    w.out = out;
    w.in = in;
    w.bits = scheme->bits;
    w.group_size = scheme->group_size > 0 ? scheme->group_size : in;
    if (in % w.group_size != 0)
      fail(ErrorKind::kInput,
           fmt::format("{}: rows of {} do not divide into groups of {}", module,
                       in, w.group_size));
    w.scales = read_scales(folder, module + ".weight_scale", {out, w.groups()});
    if (!packed_) return whole_bytes(folder, module, *scheme, std::move(w));
    check_shape(folder, module + ".weight_shape", out, in);
    w.codes = read_checked(folder, module + ".weight_packed", at::kInt,
                           {out, (in * w.bits + 31) / 32});
    if (!scheme->symmetric)
      w.zeros = unpack_columns(
          read_checked(folder, module + ".weight_zero_point", at::kInt,
                       {(out * w.bits + 31) / 32, w.groups()}),
          out, w.bits);
    return w;
  }

  std::vector<std::string> parts() const override {
    return {packed_ ? ".weight_packed" : ".weight", ".weight_scale",
            ".weight_shape", ".weight_zero_point"};
  }

 private:
  struct Group {
    Targets targets;
    Scheme scheme;
  };

  const Scheme* find(const std::string& module, bool embedding) const {
    if (ignore_.match(module)) return nullptr;
    // Exact names and patterns win over class names.
    for (const Group& group : groups_)
      if (group.targets.match(module)) return &group.scheme;
    for (const Group& group : groups_)
      if (group.targets.match(embedding ? "Embedding" : "Linear"))
        return &group.scheme;
    return nullptr;
  }

  static void check_shape(const TensorFolder& folder, const std::string& name,
                          std::int64_t out, std::int64_t in) {
    if (!folder.contains(name)) return;
    const at::Tensor shape = folder.tensor(name).to(at::kLong);
    if (shape.numel() != 2 || shape[0].item<std::int64_t>() != out ||
        shape[1].item<std::int64_t>() != in)
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' does not say [{}, {}] as config.json "
                       "asks",
                       folder.file_of(name).string(), name, out, in));
  }

  // int-quantized: one signed byte per code, whatever its width.
  static QuantizedWeight whole_bytes(const TensorFolder& folder,
                                     const std::string& module,
                                     const Scheme& scheme, QuantizedWeight w) {
    const int middle = 1 << (w.bits - 1);
    const auto unsigned_codes = [&](const std::string& name,
                                    const std::vector<std::int64_t>& shape) {
      const at::Tensor codes =
          read_checked(folder, name, at::kChar, shape).to(at::kInt) + middle;
      if ((codes < 0).logical_or(codes >= 2 * middle).any().item<bool>())
        wrong_tensor(folder, name, fmt::format("numbers of {} bits", w.bits));
      return codes.to(at::kByte);
    };
    const at::Tensor codes = unsigned_codes(module + ".weight", {w.out, w.in});
    if (!scheme.symmetric)
      w.zeros =
          unsigned_codes(module + ".weight_zero_point", {w.out, w.groups()});
    return pack_weight(codes, w.scales, w.zeros, w.bits, w.group_size);
  }

  bool packed_ = true;
  std::vector<Group> groups_;
  Targets ignore_;
};

}  // namespace

std::unique_ptr<StoredQuantization> read_compressed_tensors(
    const Json& quantization, const std::string& where) {
  return std::make_unique<CompressedTensors>(quantization, where);
}

std::vector<std::pair<std::string, at::Tensor>> write_packed(
    const QuantizedWeight& weight, const std::string& module) {
  std::vector<std::pair<std::string, at::Tensor>> out = {
      {module + ".weight_packed", weight.codes},
      {module + ".weight_scale", weight.scales},
      {module + ".weight_shape",
       at::tensor(std::vector<std::int64_t>{weight.out, weight.in},
                  at::kLong)}};
  if (!weight.symmetric())
    out.emplace_back(module + ".weight_zero_point",
                     pack_columns(weight.zeros, weight.bits));
  return out;
}

Json write_quantization_config(Json config, const Model& model) {
  // One group per scheme, in order of first appearance; targets are exact
  // module names, so that no loader has to guess.
  std::vector<std::pair<Json, std::vector<std::string>>> groups;
  std::vector<std::string> ignore;
  for (const NamedLinear& linear : named_linears(model)) {
    const auto* weight =
        std::get_if<QuantizedWeight>(&weight_of(model, linear.name));
    if (weight == nullptr) {
      if (linear.name != "embedding") ignore.push_back(linear.checkpoint_name);
      continue;
    }
    Json scheme = {{"num_bits", weight->bits},
                   {"type", "int"},
                   {"symmetric", weight->symmetric()}};
    if (weight->group_size == weight->in) {
      scheme["strategy"] = "channel";
    } else {
      scheme["strategy"] = "group";
      scheme["group_size"] = weight->group_size;
    }
    scheme["dynamic"] = false;
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
  Json config_groups = Json::object();
  for (std::size_t i = 0; i < groups.size(); ++i)
    config_groups[fmt::format("group_{}", i)] = {
        {"targets", groups[i].second},
        {"weights", groups[i].first},
        {"input_activations", nullptr},
        {"output_activations", nullptr}};
  config[kConfig] = {{"quant_method", "compressed-tensors"},
                     {"format", "pack-quantized"},
                     {"quantization_status", "compressed"},
                     {"config_groups", config_groups},
                     {"ignore", ignore}};
  return config;
}

}  // namespace autoglm
