// Configuration trees: YAML text with the place of every value, so that every
// complaint can say file:line:column. The only room that knows YAML.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autoglm/core/error.h"

namespace autoglm {

/// Where a value was written: "configs/a.yaml:14:7" or "--set a.b=v".
struct ConfigPlace {
  std::string source;
  int line = 0;  // from 1; 0 when the source has no lines
  int column = 0;
  std::string text() const;
};

/// Throws kConfig "<place>: <message>".
[[noreturn]] void fail_at(const ConfigPlace& place, const std::string& message);

/// One node of a configuration: null, scalar, list or map (order kept).
struct ConfigNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  std::string scalar;   // the text, without quotes
  bool quoted = false;  // a quoted scalar is a string, never a number
  std::vector<ConfigNode> items;
  std::vector<std::pair<std::string, ConfigNode>> entries;
  ConfigPlace place;      // of the value
  ConfigPlace key_place;  // of its key, when it is a map entry

  bool is_null() const { return kind == Kind::kNull; }
  bool is_map() const { return kind == Kind::kMap; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_scalar() const { return kind == Kind::kScalar; }

  /// The entry `key` of a map, or null pointer.
  const ConfigNode* find(std::string_view key) const;
  ConfigNode* find(std::string_view key);
  /// Sets or replaces an entry of a map (a null node becomes a map).
  ConfigNode& set(std::string key, ConfigNode value);
  std::vector<std::string> keys() const;

  // Typed reads. Each throws kConfig with the place, the key path `what` and
  // the text found when the node is something else.
  std::string as_string(std::string_view what) const;
  bool as_bool(std::string_view what) const;
  std::int64_t as_int(std::string_view what) const;
  /// A whole number; nothing for the word auto.
  std::optional<std::int64_t> as_int_or_auto(std::string_view what) const;
  double as_double(std::string_view what) const;
  /// A list of scalars; a single scalar counts as a list of one.
  std::vector<std::string> as_strings(std::string_view what) const;
  /// The maps of a list of maps.
  const std::vector<ConfigNode>& as_maps(std::string_view what) const;

  static ConfigNode of(std::string text, bool quoted = false);
  static ConfigNode of(const char* text) { return of(std::string(text)); }
  static ConfigNode of(std::int64_t value);
  static ConfigNode of(double value);  // shortest text that reads back equal
  static ConfigNode of(bool value);
  static ConfigNode of(const std::vector<std::string>& values);
  static ConfigNode map();
  static ConfigNode list();
};

/// Reads YAML. Errors: kInput when the file cannot be read, kConfig with the
/// place for a syntax error, a duplicate key, an alias or a custom tag.
ConfigNode read_config(const std::filesystem::path& file);
ConfigNode parse_config(std::string_view yaml, std::string source);

/// Applies "a.b.0.c=value" (value is YAML); creates maps on the way.
void apply_override(ConfigNode& root, std::string_view assignment);

/// YAML text that parses back to the same tree.
std::string to_yaml(const ConfigNode& node);

/// Throws kConfig at the first key that is not in `known`, with the nearest.
/// `what` names the map, for example "data.calibration".
void check_keys(const ConfigNode& map, const std::vector<std::string>& known,
                std::string_view what);

}  // namespace autoglm
