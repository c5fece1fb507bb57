#include "model/compressed_tensors.h"

#include <algorithm>
#include <map>
#include <regex>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/kernels/packed_linear.h"

namespace autoglm {
namespace {

constexpr const char* kConfig = "quantization_config";

PackedScheme read_scheme(const Json& group, const std::string& source) {
  const std::string where = source + ": " + kConfig;
  if (!group.is_object() || !group.contains("weights") ||
      !group["weights"].is_object())
    fail(ErrorKind::kInput, where + ": a group has no weights");
  if (group.contains("input_activations") &&
      !group["input_activations"].is_null())
    fail(ErrorKind::kInput,
         where + ": quantized activations are not supported");
  const Json& weights = group["weights"];
  PackedScheme scheme;
  scheme.bits = static_cast<int>(json_int(weights, "num_bits", where));
  if (scheme.bits < 2 || scheme.bits > 8)
    fail(ErrorKind::kInput,
         fmt::format("{}: num_bits is {}; 2 to 8 are supported", where,
                     scheme.bits));
  if (const std::string type = weights.value("type", std::string("int"));
      type != "int")
    fail(ErrorKind::kInput,
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

std::vector<std::string> read_names(const Json& list,
                                    const std::string& where) {
  std::vector<std::string> out;
  if (list.is_null()) return out;
  for (const Json& name : list) {
    if (!name.is_string())
      fail(ErrorKind::kInput, where + " is not a list of names");
    out.push_back(name.get<std::string>());
  }
  return out;
}

bool matches(const std::string& target, const std::string& module) {
  if (!target.starts_with("re:")) return target == module;
  try {
    return std::regex_search(module, std::regex(target.substr(3)),
                             std::regex_constants::match_continuous);
  } catch (const std::regex_error&) {
    fail(ErrorKind::kInput,
         fmt::format("{}: the pattern '{}' cannot be read", kConfig, target));
  }
}

bool any_matches(const std::vector<std::string>& targets,
                 const std::string& module) {
  return std::any_of(targets.begin(), targets.end(), [&](const auto& target) {
    return matches(target, module);
  });
}

[[noreturn]] void wrong_tensor(const TensorFolder& folder,
                               const std::string& name,
                               const std::string& expected) {
  const TensorEntry& entry = folder.entry(name);
  fail(ErrorKind::kInput, fmt::format("{}: tensor '{}' is {} [{}], expected {}",
                                      folder.file_of(name).string(), name,
                                      safetensors_dtype(entry.dtype),
                                      fmt::join(entry.shape, ", "), expected));
}

at::Tensor read_checked(const TensorFolder& folder, const std::string& name,
                        at::ScalarType dtype,
                        const std::vector<std::int64_t>& shape) {
  if (!folder.contains(name))
    fail(ErrorKind::kInput, fmt::format("tensor '{}' is missing", name));
  const TensorEntry& entry = folder.entry(name);
  if (entry.dtype != dtype || entry.shape != shape)
    wrong_tensor(folder, name,
                 fmt::format("{} [{}]", safetensors_dtype(dtype),
                             fmt::join(shape, ", ")));
  return folder.tensor(name);
}

std::uint32_t* words_of(at::Tensor& tensor) {
  return reinterpret_cast<std::uint32_t*>(tensor.data_ptr<std::int32_t>());
}

// Zero points lie packed along the rows: element n of a column at bit n*b.
// That is the packing of a weight row over the transposed matrix.
at::Tensor pack_zeros(const at::Tensor& zeros, int bits) {
  const at::Tensor columns =
      zeros.to(at::kCPU).t().contiguous();  // [groups, out]
  const std::int64_t groups = columns.size(0), out = columns.size(1);
  at::Tensor words = at::empty({groups, (out * bits + 31) / 32}, at::kInt);
  kernels::pack_rows(columns.const_data_ptr<std::uint8_t>(), groups, out, bits,
                     words_of(words));
  return words.t().contiguous();
}

at::Tensor unpack_zeros(const at::Tensor& packed, std::int64_t out, int bits) {
  const at::Tensor words = packed.t().contiguous();
  at::Tensor columns = at::empty({words.size(0), out}, at::kByte);
  kernels::unpack_codes(reinterpret_cast<const std::uint32_t*>(
                            words.const_data_ptr<std::int32_t>()),
                        words.size(0), out, bits,
                        columns.data_ptr<std::uint8_t>());
  return columns.t().contiguous();
}

}  // namespace

QuantizationConfig QuantizationConfig::read(const Json& config,
                                            const std::string& source) {
  QuantizationConfig out;
  if (!config.contains(kConfig) || config[kConfig].is_null()) return out;
  const Json& quantization = config[kConfig];
  const std::string where = source + ": " + kConfig;
  const std::string method = json_string(quantization, "quant_method", where);
  if (method != "compressed-tensors")
    fail(ErrorKind::kInput, fmt::format("{}: quant_method {} is not supported; "
                                        "compressed-tensors is",
                                        where, method));
  const std::string format = json_string(quantization, "format", where);
  if (format != "pack-quantized")
    fail(ErrorKind::kInput,
         fmt::format("{}: format {} is not supported; pack-quantized is", where,
                     format));
  if (!quantization.contains("config_groups") ||
      !quantization["config_groups"].is_object())
    fail(ErrorKind::kInput, where + ": config_groups is missing");
  for (const auto& [name, group] : quantization["config_groups"].items())
    out.groups_.push_back(
        {read_names(group.value("targets", Json()), where + ": targets"),
         read_scheme(group, source)});
  out.ignore_ =
      read_names(quantization.value("ignore", Json()), where + ": ignore");
  return out;
}

const PackedScheme* QuantizationConfig::find(const std::string& module,
                                             bool embedding) const {
  if (any_matches(ignore_, module)) return nullptr;
  // Exact names and patterns win over class names.
  for (const Group& group : groups_)
    if (any_matches(group.targets, module)) return &group.scheme;
  for (const Group& group : groups_)
    if (any_matches(group.targets, embedding ? "Embedding" : "Linear"))
      return &group.scheme;
  return nullptr;
}

QuantizedWeight read_packed(const TensorFolder& folder,
                            const std::string& module,
                            const PackedScheme& scheme, std::int64_t out,
                            std::int64_t in) {
  QuantizedWeight w;
  w.out = out;
  w.in = in;
  w.bits = scheme.bits;
  w.group_size = scheme.group_size > 0 ? scheme.group_size : in;
  if (in % w.group_size != 0)
    fail(ErrorKind::kInput,
         fmt::format("{}: rows of {} do not divide into groups of {}", module,
                     in, w.group_size));
  const std::string shape_name = module + ".weight_shape";
  if (folder.contains(shape_name)) {
    const at::Tensor shape = folder.tensor(shape_name).to(at::kLong);
    if (shape.numel() != 2 || shape[0].item<std::int64_t>() != out ||
        shape[1].item<std::int64_t>() != in)
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' does not say [{}, {}] as config.json "
                       "asks",
                       folder.file_of(shape_name).string(), shape_name, out,
                       in));
  }
  w.codes = read_checked(folder, module + ".weight_packed", at::kInt,
                         {out, (in * w.bits + 31) / 32});
  const std::string scale = module + ".weight_scale";
  if (!folder.contains(scale))
    fail(ErrorKind::kInput, fmt::format("tensor '{}' is missing", scale));
  const at::ScalarType dtype = folder.entry(scale).dtype;
  if (dtype != at::kFloat && dtype != at::kHalf && dtype != at::kBFloat16)
    wrong_tensor(folder, scale, "a floating point dtype");
  w.scales = read_checked(folder, scale, dtype, {out, w.groups()});
  if (!scheme.symmetric)
    w.zeros = unpack_zeros(
        read_checked(folder, module + ".weight_zero_point", at::kInt,
                     {(out * w.bits + 31) / 32, w.groups()}),
        out, w.bits);
  return w;
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
                     pack_zeros(weight.zeros, weight.bits));
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
  if (groups.empty()) {
    config.erase(kConfig);
    return config;
  }
  if (!model.head)
    ignore.push_back(std::string(model.architecture.family->head));
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
