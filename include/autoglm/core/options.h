// Typed options, declared once. A struct with
//
//   template <class Field> void visit(Field&& field) {
//     field("bits", bits, "width of a code", Range{2, 8});
//     field("method", method, "how to round", Choices{"rtn", "adaquant"});
//   }
//
// gets parsing with exact places, range checks, the catalogue, the resolved
// configuration and the search space from that one declaration. An option with
// a Range or Choices is searchable; one without is not.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "autoglm/core/config.h"

namespace autoglm {

/// Closed interval of allowed values.
struct Range {
  double low;
  double high;
};

struct Choices {
  std::vector<std::string> names;
  Choices(std::initializer_list<std::string> list) : names(list) {}
};

/// What the catalogue knows of one option.
struct OptionInfo {
  std::string name;
  std::string type;  // bool, int, number, string, list of strings
  std::string default_text;
  std::string help;
  std::optional<Range> range;
  std::vector<std::string> choices;
  bool searchable() const { return range.has_value() || !choices.empty(); }
};

namespace options_detail {

void read_value(const ConfigNode& node, const std::string& what, bool& value);
void read_value(const ConfigNode& node, const std::string& what,
                std::int64_t& value);
void read_value(const ConfigNode& node, const std::string& what, double& value);
void read_value(const ConfigNode& node, const std::string& what,
                std::string& value);
void read_value(const ConfigNode& node, const std::string& what,
                std::vector<std::string>& value);
void check_range(const ConfigNode& node, const std::string& what, double value,
                 const Range& range);
void check_choice(const ConfigNode& node, const std::string& what,
                  const std::string& value, const Choices& choices);
std::string value_text(const ConfigNode& node);

template <class T>
std::string type_name() {
  if constexpr (std::is_same_v<T, bool>)
    return "bool";
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return "int";
  else if constexpr (std::is_same_v<T, double>)
    return "number";
  else if constexpr (std::is_same_v<T, std::string>)
    return "string";
  else
    return "list of strings";
}

struct NameCollector {
  std::vector<std::string> names;
  template <class T, class... Limit>
  void operator()(const char* name, T&, const char*, Limit&&...) {
    names.emplace_back(name);
  }
};

struct Reader {
  const ConfigNode& params;
  std::string owner;

  template <class T>
  const ConfigNode* read(const char* name, T& value) {
    const ConfigNode* node = params.find(name);
    if (node != nullptr) read_value(*node, owner + "." + name, value);
    return node;
  }
  template <class T>
  void operator()(const char* name, T& value, const char*) {
    read(name, value);
  }
  template <class T>
  void operator()(const char* name, T& value, const char*, const Range& range) {
    if (const ConfigNode* node = read(name, value))
      check_range(*node, owner + "." + name, static_cast<double>(value), range);
  }
  void operator()(const char* name, std::string& value, const char*,
                  const Choices& choices) {
    if (const ConfigNode* node = read(name, value))
      check_choice(*node, owner + "." + name, value, choices);
  }
};

struct Describer {
  std::vector<OptionInfo> infos;
  template <class T>
  OptionInfo& add(const char* name, T& value, const char* help) {
    infos.push_back({name,
                     type_name<T>(),
                     value_text(ConfigNode::of(value)),
                     help,
                     std::nullopt,
                     {}});
    return infos.back();
  }
  template <class T>
  void operator()(const char* name, T& value, const char* help) {
    add(name, value, help);
  }
  template <class T>
  void operator()(const char* name, T& value, const char* help,
                  const Range& range) {
    add(name, value, help).range = range;
  }
  void operator()(const char* name, std::string& value, const char* help,
                  const Choices& choices) {
    add(name, value, help).choices = choices.names;
  }
};

struct Writer {
  ConfigNode map = ConfigNode::map();
  template <class T, class... Limit>
  void operator()(const char* name, T& value, const char*, Limit&&...) {
    map.set(name, ConfigNode::of(value));
  }
};

}  // namespace options_detail

/// Reads `params` (a map or null) over the defaults. `owner` is the name that
/// messages use, for example "structured_pruning".
template <class Options>
Options parse_options(const ConfigNode& params, const std::string& owner) {
  Options options;
  options_detail::NameCollector names;
  options.visit(names);
  check_keys(params, names.names, owner);
  options_detail::Reader reader{params, owner};
  options.visit(reader);
  return options;
}

template <class Options>
std::vector<OptionInfo> describe_options() {
  Options options;
  options_detail::Describer describer;
  options.visit(describer);
  return describer.infos;
}

/// All options with their values, for resolved.yaml.
template <class Options>
ConfigNode options_to_config(Options options) {
  options_detail::Writer writer;
  options.visit(writer);
  return writer.map;
}

}  // namespace autoglm
