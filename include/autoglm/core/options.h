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
//
// An option is a bool, std::int64_t, double, std::string, list of strings,
// AutoInt or ByteCount; a std::optional of one of them may be left out, and
// then is not written either; a std::vector of a struct with its own visit() is
// a list of maps, empty by default.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
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

/// A whole number, or the word auto. A Range is for the number.
struct AutoInt {
  std::optional<std::int64_t> number;
  bool is_auto() const { return !number; }
};

/// A size in bytes, written 6GB, 512MiB or as a number (core/text.h).
struct ByteCount {
  std::uint64_t bytes = 0;
};

/// What the catalogue knows of one option.
struct OptionInfo {
  std::string name;
  /// bool, int, number, string, list of strings, int or auto, size, list of
  /// maps
  std::string type;
  std::string default_text;
  std::string help;
  std::optional<Range> range;
  std::vector<std::string> choices;
  std::vector<OptionInfo> fields;  // of the maps of a list of maps
  bool searchable() const { return range.has_value() || !choices.empty(); }
};

template <class Options>
Options parse_options(const ConfigNode& params, const std::string& owner);
template <class Options>
std::vector<OptionInfo> describe_options();
template <class Options>
ConfigNode options_to_config(Options options);

namespace options_detail {

struct NameCollector {
  std::vector<std::string> names;
  template <class T, class... Limit>
  void operator()(const char* name, T&, const char*, Limit&&...) {
    names.emplace_back(name);
  }
};

template <class T>
concept OptionStruct = requires(T value, NameCollector& names) {
  value.visit(names);
};

void read_value(const ConfigNode& node, const std::string& what, bool& value);
void read_value(const ConfigNode& node, const std::string& what,
                std::int64_t& value);
void read_value(const ConfigNode& node, const std::string& what, double& value);
void read_value(const ConfigNode& node, const std::string& what,
                std::string& value);
void read_value(const ConfigNode& node, const std::string& what,
                std::vector<std::string>& value);
void read_value(const ConfigNode& node, const std::string& what,
                AutoInt& value);
void read_value(const ConfigNode& node, const std::string& what,
                ByteCount& value);
template <class T>
void read_value(const ConfigNode& node, const std::string& what,
                std::optional<T>& value) {
  read_value(node, what, value.emplace());
}
template <OptionStruct T>
void read_value(const ConfigNode& node, const std::string& what,
                std::vector<T>& value) {
  value.clear();
  for (const ConfigNode& item : node.as_maps(what))
    value.push_back(parse_options<T>(
        item, what + "[" + std::to_string(value.size()) + "]"));
}

template <class T>
ConfigNode to_node(const T& value) {
  return ConfigNode::of(value);
}
ConfigNode to_node(const AutoInt& value);
ConfigNode to_node(const ByteCount& value);
template <class T>
ConfigNode to_node(const std::optional<T>& value) {
  return value ? to_node(*value) : ConfigNode();
}
template <OptionStruct T>
ConfigNode to_node(const std::vector<T>& value) {
  ConfigNode list = ConfigNode::list();
  for (const T& item : value) list.items.push_back(options_to_config(item));
  return list;
}

/// The number that a Range is for, if there is one.
inline std::optional<double> number_of(double value) { return value; }
inline std::optional<double> number_of(std::int64_t value) {
  return static_cast<double>(value);
}
inline std::optional<double> number_of(const AutoInt& value) {
  return value.number;
}
template <class T>
std::optional<double> number_of(const std::optional<T>& value) {
  return value ? number_of(*value) : std::nullopt;
}

void check_range(const ConfigNode& node, const std::string& what, double value,
                 const Range& range);
void check_choice(const ConfigNode& node, const std::string& what,
                  const Choices& choices);
std::string value_text(const ConfigNode& node);

template <class T>
struct Unwrapped {
  using Type = T;
};
template <class T>
struct Unwrapped<std::optional<T>> {
  using Type = T;
};

template <class Wrapped>
std::string type_name() {
  using T = typename Unwrapped<Wrapped>::Type;
  if constexpr (std::is_same_v<T, bool>)
    return "bool";
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return "int";
  else if constexpr (std::is_same_v<T, AutoInt>)
    return "int or auto";
  else if constexpr (std::is_same_v<T, ByteCount>)
    return "size";
  else if constexpr (std::is_same_v<T, double>)
    return "number";
  else if constexpr (std::is_same_v<T, std::string>)
    return "string";
  else if constexpr (std::is_same_v<T, std::vector<std::string>>)
    return "list of strings";
  else
    return "list of maps";
}

template <class T>
std::vector<OptionInfo> fields_of(const T&) {
  return {};
}
template <OptionStruct T>
std::vector<OptionInfo> fields_of(const std::vector<T>&) {
  return describe_options<T>();
}

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
    const ConfigNode* node = read(name, value);
    if (node == nullptr) return;
    if (const std::optional<double> number = number_of(value))
      check_range(*node, owner + "." + name, *number, range);
  }
  template <class T>
  void operator()(const char* name, T& value, const char*,
                  const Choices& choices) {
    if (const ConfigNode* node = read(name, value))
      check_choice(*node, owner + "." + name, choices);
  }
};

struct Describer {
  std::vector<OptionInfo> infos;
  template <class T>
  OptionInfo& add(const char* name, T& value, const char* help) {
    infos.push_back({name,
                     type_name<T>(),
                     value_text(to_node(value)),
                     help,
                     std::nullopt,
                     {},
                     fields_of(value)});
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
  template <class T>
  void operator()(const char* name, T& value, const char* help,
                  const Choices& choices) {
    add(name, value, help).choices = choices.names;
  }
};

struct Writer {
  ConfigNode map = ConfigNode::map();
  template <class T, class... Limit>
  void operator()(const char* name, T& value, const char*, Limit&&...) {
    ConfigNode node = to_node(value);
    if (!node.is_null()) map.set(name, std::move(node));
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
