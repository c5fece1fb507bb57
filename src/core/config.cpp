#include "autoglm/core/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "autoglm/core/text.h"

namespace autoglm {
namespace {

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

std::optional<std::int64_t> whole_number(const ConfigNode& node) {
  if (!node.is_scalar() || node.quoted) return std::nullopt;
  std::int64_t value = 0;
  const char* end = node.scalar.data() + node.scalar.size();
  const auto result = std::from_chars(node.scalar.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

}  // namespace

void fail_at(const ConfigPlace& place, const std::string& message) {
  fail(ErrorKind::kConfig, place.text() + ": " + message);
}

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
  if (const auto value = whole_number(*this)) return *value;
  wrong_type(*this, what, "a whole number");
}

std::optional<std::int64_t> ConfigNode::as_int_or_auto(
    std::string_view what) const {
  if (is_scalar() && scalar == "auto") return std::nullopt;
  if (const auto value = whole_number(*this)) return value;
  wrong_type(*this, what, "a whole number or auto");
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

const std::vector<ConfigNode>& ConfigNode::as_maps(
    std::string_view what) const {
  if (!is_list()) wrong_type(*this, what, "a list of maps");
  for (std::size_t i = 0; i < items.size(); ++i)
    if (!items[i].is_map())
      wrong_type(items[i], fmt::format("{}[{}]", what, i), "a map");
  return items;
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
