#include "model/checkpoint/stored_schemes.h"

#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

// The layout of a group, which may be stated for all groups together.
std::string read_format(const Json& group, const std::string& common,
                        const std::string& where) {
  const bool own = group.contains("format") && !group["format"].is_null();
  const std::string format = own ? json_string(group, "format", where) : common;
  if (format != "pack-quantized" && format != "int-quantized" &&
      format != "float-quantized" && format != "naive-quantized")
    fail(ErrorKind::kInput,
         fmt::format("{}: format {} is not supported; pack-quantized, "
                     "int-quantized, float-quantized and naive-quantized are",
                     where, format));
  return format;
}

// Activations are rounded to what the weights are.
void read_activations(const Json& group, const std::string& where,
                      StoredScheme& scheme) {
  if (!group.contains("input_activations") ||
      group["input_activations"].is_null())
    return;
  const Json& given = group["input_activations"];
  if (!given.is_object())
    fail(ErrorKind::kInput, where + ": input_activations is no object");
  const std::int64_t bits = json_int(given, "num_bits", where);
  const std::string type =
      given.contains("type") ? json_string(given, "type", where) : "int";
  const std::string strategy = json_string(given, "strategy", where);
  const bool symmetric = json_bool_or(given, "symmetric", true, where);
  const bool dynamic = json_bool_or(given, "dynamic", false, where);
  if (bits != 8 || type != (scheme.float8 ? "float" : "int") || !symmetric ||
      strategy != (dynamic ? "token" : "tensor"))
    fail(
        ErrorKind::kInput,
        fmt::format(
            "{}: {} activations of {} bits and type {}, {} per {}, are not "
            "supported; symmetric ones of 8 bits and of the weights' type are, "
            "dynamic per token or static per tensor",
            where, symmetric ? "symmetric" : "asymmetric", bits, type,
            dynamic ? "dynamic" : "static", strategy));
  if (!scheme.float8 &&
      (scheme.bits != 8 || scheme.group_size > 0 || !scheme.symmetric))
    fail(ErrorKind::kInput,
         where +
             ": quantized activations are supported with fp8 weights and "
             "with symmetric int8 weights that have one scale per row");
  scheme.activations = true;
  scheme.static_activations = !dynamic;
}

StoredScheme read_scheme(const Json& group, const std::string& common_format,
                         const std::string& where) {
  if (!group.is_object() || !group.contains("weights") ||
      !group["weights"].is_object())
    fail(ErrorKind::kInput, where + ": a group has no weights");
  if (group.contains("output_activations") &&
      !group["output_activations"].is_null())
    fail(ErrorKind::kInput, where + ": output_activations are not supported");
  const Json& weights = group["weights"];
  const std::string format = read_format(group, common_format, where);
  const std::string type =
      weights.contains("type") ? json_string(weights, "type", where) : "int";
  StoredScheme scheme;
  scheme.packed = format == "pack-quantized";
  scheme.float8 = type == "float";
  scheme.bits = static_cast<int>(json_int(weights, "num_bits", where));
  scheme.symmetric = json_bool_or(weights, "symmetric", true, where);
  if ((type != "int" && type != "float") ||
      format == (scheme.float8 ? "int-quantized" : "float-quantized") ||
      (scheme.float8 && scheme.packed))
    fail(ErrorKind::kInput,
         fmt::format("{}: weights of type {} are not supported in the format "
                     "{}",
                     where, type, format));
  if (scheme.bits < (scheme.float8 ? 8 : 2) || scheme.bits > 8)
    fail(ErrorKind::kInput,
         fmt::format(
             "{}: num_bits is {}; {} supported", where, scheme.bits,
             scheme.float8 ? "floating point numbers of 8 are" : "2 to 8 are"));
  const std::string strategy = json_string(weights, "strategy", where);
  scheme.per_tensor = strategy == "tensor";
  if (strategy == "group" && !scheme.float8) {
    scheme.group_size = json_int(weights, "group_size", where);
    if (scheme.group_size < 1)
      fail(ErrorKind::kInput,
           fmt::format("{}: group_size is {}", where, scheme.group_size));
  } else if (strategy != "channel" && !scheme.per_tensor) {
    fail(ErrorKind::kInput,
         fmt::format("{}: the strategy {} is not supported for {} weights",
                     where, strategy, type));
  }
  if ((scheme.per_tensor || scheme.float8) && !scheme.symmetric)
    fail(ErrorKind::kInput,
         fmt::format("{}: {} weights with the strategy {} have to be symmetric",
                     where, type, strategy));
  if (weights.contains("actorder") && !weights["actorder"].is_null() &&
      weights["actorder"] != "weight" && weights["actorder"] != "static")
    fail(ErrorKind::kInput, where + ": actorder is not supported");
  read_activations(group, where, scheme);
  return scheme;
}

}  // namespace

StoredTargets::StoredTargets(const Json& list, const std::string& where) {
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

bool StoredTargets::match(const std::string& module) const {
  return names_.contains(module) ||
         std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const std::regex& pattern) {
                       return std::regex_search(
                           module, pattern,
                           std::regex_constants::match_continuous);
                     });
}

StoredSchemes::StoredSchemes(const Json& quantization, const std::string& where)
    : ignore_(quantization.value("ignore", Json()), where + ": ignore") {
  const std::string format = json_string(quantization, "format", where);
  if (!quantization.contains("config_groups") ||
      !quantization["config_groups"].is_object())
    fail(ErrorKind::kInput, where + ": config_groups is missing");
  for (const auto& [name, group] : quantization["config_groups"].items()) {
    const StoredScheme scheme = read_scheme(group, format, where);
    groups_.push_back(
        {StoredTargets(group.value("targets", Json()), where + ": targets"),
         scheme});
  }
}

const StoredScheme* StoredSchemes::find(const std::string& module,
                                        bool embedding) const {
  if (ignore_.match(module)) return nullptr;
  // Exact names and patterns win over class names.
  for (const Group& group : groups_)
    if (group.targets.match(module)) return &group.scheme;
  for (const Group& group : groups_)
    if (group.targets.match(embedding ? "Embedding" : "Linear"))
      return &group.scheme;
  return nullptr;
}

}  // namespace autoglm
