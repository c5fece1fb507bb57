#include "autoglm/core/config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "autoglm/core/file.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

[[noreturn]] void fail_at(const ConfigPlace& place,
                          const std::string& message) {
  fail(ErrorKind::kConfig, place.text() + ": " + message);
}

ConfigPlace place_of(const YAML::Mark& mark, const std::string& source) {
  if (mark.is_null()) return {source, 0, 0};
  return {source, mark.line + 1, mark.column + 1};
}

// Depth is limited so that a hostile file cannot overflow the stack.
ConfigNode convert(const YAML::Node& node, const std::string& source,
                   int depth) {
  ConfigNode out;
  out.place = place_of(node.Mark(), source);
  if (depth > 64) fail_at(out.place, "nested more than 64 levels deep");
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      break;
    case YAML::NodeType::Scalar:
      out.kind = ConfigNode::Kind::kScalar;
      out.scalar = node.Scalar();
      // yaml-cpp marks quoted scalars with the non-specific tag "!".
      out.quoted = node.Tag() == "!";
      break;
    case YAML::NodeType::Sequence:
      out.kind = ConfigNode::Kind::kList;
      for (const YAML::Node& item : node)
        out.items.push_back(convert(item, source, depth + 1));
      break;
    case YAML::NodeType::Map:
      out.kind = ConfigNode::Kind::kMap;
      for (const auto& entry : node) {
        const ConfigPlace key_place = place_of(entry.first.Mark(), source);
        if (!entry.first.IsScalar())
          fail_at(key_place, "a key must be plain text");
        const std::string key = entry.first.Scalar();
        if (out.find(key) != nullptr)
          fail_at(key_place, fmt::format("'{}' is given twice", key));
        ConfigNode& value =
            out.set(key, convert(entry.second, source, depth + 1));
        value.key_place = key_place;
      }
      break;
  }
  return out;
}

std::string found(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      return "nothing";
    case ConfigNode::Kind::kScalar:
      return "'" + node.scalar + "'";
    case ConfigNode::Kind::kList:
      return "a list";
    case ConfigNode::Kind::kMap:
      return "a map";
  }
  return "";
}

[[noreturn]] void wrong_type(const ConfigNode& node, std::string_view what,
                             const char* expected) {
  fail_at(node.place, fmt::format("{} should be {}, but is {}", what, expected,
                                  found(node)));
}

void emit(YAML::Emitter& out, const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      out << YAML::Null;
      break;
    case ConfigNode::Kind::kScalar:
      if (node.quoted) out << YAML::DoubleQuoted;
      out << node.scalar;
      break;
    case ConfigNode::Kind::kList: {
      const bool flat =
          std::all_of(node.items.begin(), node.items.end(),
                      [](const auto& n) { return n.is_scalar(); });
      if (flat) out << YAML::Flow;
      out << YAML::BeginSeq;
      for (const ConfigNode& item : node.items) emit(out, item);
      out << YAML::EndSeq;
      break;
    }
    case ConfigNode::Kind::kMap:
      out << YAML::BeginMap;
      for (const auto& [key, value] : node.entries) {
        out << YAML::Key << key << YAML::Value;
        emit(out, value);
      }
      out << YAML::EndMap;
      break;
  }
}

}  // namespace

std::string ConfigPlace::text() const {
  if (line == 0) return source;
  return fmt::format("{}:{}:{}", source, line, column);
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const auto& [name, value] : entries)
    if (name == key) return &value;
  return nullptr;
}

ConfigNode* ConfigNode::find(std::string_view key) {
  return const_cast<ConfigNode*>(std::as_const(*this).find(key));
}

ConfigNode& ConfigNode::set(std::string key, ConfigNode value) {
  if (kind == Kind::kNull) kind = Kind::kMap;
  AUTOGLM_ENSURE(kind == Kind::kMap);
  if (ConfigNode* existing = find(key)) {
    *existing = std::move(value);
    return *existing;
  }
  entries.emplace_back(std::move(key), std::move(value));
  return entries.back().second;
}

std::vector<std::string> ConfigNode::keys() const {
  std::vector<std::string> out;
  for (const auto& [key, value] : entries) out.push_back(key);
  return out;
}

std::string ConfigNode::as_string(std::string_view what) const {
  if (!is_scalar()) wrong_type(*this, what, "text");
  return scalar;
}

bool ConfigNode::as_bool(std::string_view what) const {
  if (is_scalar() && !quoted) {
    if (scalar == "true" || scalar == "True" || scalar == "yes") return true;
    if (scalar == "false" || scalar == "False" || scalar == "no") return false;
  }
  wrong_type(*this, what, "true or false");
}

std::int64_t ConfigNode::as_int(std::string_view what) const {
  if (is_scalar() && !quoted) {
    std::int64_t value = 0;
    const char* end = scalar.data() + scalar.size();
    const auto result = std::from_chars(scalar.data(), end, value);
    if (result.ec == std::errc() && result.ptr == end) return value;
  }
  wrong_type(*this, what, "a whole number");
}

double ConfigNode::as_double(std::string_view what) const {
  if (is_scalar() && !quoted) {
    double value = 0;
    const char* end = scalar.data() + scalar.size();
    const auto result = std::from_chars(scalar.data(), end, value);
    if (result.ec == std::errc() && result.ptr == end && std::isfinite(value))
      return value;
  }
  wrong_type(*this, what, "a number");
}

std::vector<std::string> ConfigNode::as_strings(std::string_view what) const {
  if (is_scalar()) return {scalar};
  if (!is_list()) wrong_type(*this, what, "a list of texts");
  std::vector<std::string> out;
  for (const ConfigNode& item : items) out.push_back(item.as_string(what));
  return out;
}

ConfigNode ConfigNode::of(std::string text, bool quoted) {
  ConfigNode node;
  node.kind = Kind::kScalar;
  node.scalar = std::move(text);
  node.quoted = quoted;
  return node;
}

ConfigNode ConfigNode::of(std::int64_t value) {
  return of(std::to_string(value));
}

ConfigNode ConfigNode::of(double value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  return of(std::string(buffer, result.ptr));
}

ConfigNode ConfigNode::of(bool value) { return of(value ? "true" : "false"); }

ConfigNode ConfigNode::of(const std::vector<std::string>& values) {
  ConfigNode node = list();
  for (const std::string& value : values) node.items.push_back(of(value, true));
  return node;
}

ConfigNode ConfigNode::map() {
  ConfigNode node;
  node.kind = Kind::kMap;
  return node;
}

ConfigNode ConfigNode::list() {
  ConfigNode node;
  node.kind = Kind::kList;
  return node;
}

ConfigNode parse_config(std::string_view yaml, std::string source) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(yaml));
    if (documents.size() > 1)
      fail(ErrorKind::kConfig, source + ": holds more than one YAML document");
    if (documents.empty()) return {};
    return convert(documents[0], source, 0);
  } catch (const YAML::Exception& error) {
    fail_at(place_of(error.mark, source), "not valid YAML: " + error.msg);
  }
}

ConfigNode read_config(const std::filesystem::path& file) {
  return parse_config(read_file(file), file.string());
}

void apply_override(ConfigNode& root, std::string_view assignment) {
  const std::string source = "--set " + std::string(assignment);
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0)
    fail(ErrorKind::kConfig, source + ": write it as key.key=value");
  ConfigNode value = parse_config(assignment.substr(equals + 1), source);
  const auto mark = [&](auto&& self, ConfigNode& node) -> void {
    node.place = node.key_place = {source, 0, 0};
    for (ConfigNode& item : node.items) self(self, item);
    for (auto& entry : node.entries) self(self, entry.second);
  };
  mark(mark, value);

  ConfigNode* node = &root;
  std::string_view path = assignment.substr(0, equals);
  while (true) {
    const std::size_t dot = path.find('.');
    const std::string key(path.substr(0, dot));
    const bool last = dot == std::string_view::npos;
    if (key.empty()) fail(ErrorKind::kConfig, source + ": an empty key");
    ConfigNode* next = nullptr;
    if (node->is_list()) {
      std::size_t index = 0;
      const auto result =
          std::from_chars(key.data(), key.data() + key.size(), index);
      if (result.ec != std::errc() || result.ptr != key.data() + key.size() ||
          index >= node->items.size())
        fail(ErrorKind::kConfig,
             fmt::format("{}: '{}' is not an entry of a list of {}", source,
                         key, node->items.size()));
      next = &node->items[index];
    } else if (node->is_map() || node->is_null()) {
      next = node->find(key);
      if (next == nullptr) {
        ConfigNode made;
        made.place = made.key_place = {source, 0, 0};
        next = &node->set(key, std::move(made));
      }
    } else {
      fail(ErrorKind::kConfig,
           fmt::format("{}: '{}' lies below a value, not a map", source, key));
    }
    if (last) {
      *next = std::move(value);
      return;
    }
    node = next;
    path.remove_prefix(dot + 1);
  }
}

std::string to_yaml(const ConfigNode& node) {
  YAML::Emitter out;
  emit(out, node);
  AUTOGLM_ENSURE(out.good());
  return std::string(out.c_str()) + "\n";
}

void check_keys(const ConfigNode& map, const std::vector<std::string>& known,
                std::string_view what) {
  if (map.is_null()) return;
  if (!map.is_map()) wrong_type(map, what, "a map");
  for (const auto& [key, value] : map.entries) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string near = did_you_mean(key, known);
    fail_at(value.key_place,
            fmt::format("unknown key '{}' in {}{}", key, what,
                        near.empty()
                            ? fmt::format("; known: {}", fmt::join(known, ", "))
                            : near));
  }
}

}  // namespace autoglm
