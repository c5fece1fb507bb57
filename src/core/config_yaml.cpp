// YAML text to and from configuration trees; nothing else includes yaml-cpp.
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>

#include "autoglm/core/config.h"
#include "autoglm/core/file.h"

namespace autoglm {
namespace {

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

}  // namespace autoglm
