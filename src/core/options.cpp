#include "autoglm/core/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "autoglm/core/text.h"

namespace autoglm::options_detail {

void read_value(const ConfigNode& node, const std::string& what, bool& value) {
  value = node.as_bool(what);
}

void read_value(const ConfigNode& node, const std::string& what,
                std::int64_t& value) {
  value = node.as_int(what);
}

void read_value(const ConfigNode& node, const std::string& what,
                double& value) {
  value = node.as_double(what);
}

void read_value(const ConfigNode& node, const std::string& what,
                std::string& value) {
  value = node.as_string(what);
}

void read_value(const ConfigNode& node, const std::string& what,
                std::vector<std::string>& value) {
  value = node.as_strings(what);
}

void read_value(const ConfigNode& node, const std::string& what,
                AutoInt& value) {
  value.number = node.as_int_or_auto(what);
}

void read_value(const ConfigNode& node, const std::string& what,
                ByteCount& value) {
  const std::string text = node.as_string(what);
  value.bytes = with_context(
      [&] { return fmt::format("{}: {}", node.place.text(), what); },
      [&] { return parse_bytes(text); });
}

ConfigNode to_node(const AutoInt& value) {
  return value.is_auto() ? ConfigNode::of("auto")
                         : ConfigNode::of(*value.number);
}

ConfigNode to_node(const ByteCount& value) {
  return ConfigNode::of(std::to_string(value.bytes));
}

void check_range(const ConfigNode& node, const std::string& what, double value,
                 const Range& range) {
  if (value >= range.low && value <= range.high) return;
  fail(ErrorKind::kConfig,
       fmt::format("{}: {} must lie between {} and {}, but is {}",
                   node.place.text(), what, ConfigNode::of(range.low).scalar,
                   ConfigNode::of(range.high).scalar, node.scalar));
}

void check_choice(const ConfigNode& node, const std::string& what,
                  const Choices& choices) {
  const std::string value = node.as_string(what);
  const auto& names = choices.names;
  if (std::find(names.begin(), names.end(), value) != names.end()) return;
  fail(ErrorKind::kConfig,
       fmt::format("{}: {} must be one of {}, but is '{}'{}", node.place.text(),
                   what, fmt::join(names, ", "), value,
                   did_you_mean(value, names)));
}

std::string value_text(const ConfigNode& node) {
  if (!node.is_list()) return node.scalar;
  std::vector<std::string> quoted;
  for (const ConfigNode& item : node.items) {
    AUTOGLM_ENSURE(item.is_scalar());
    quoted.push_back("\"" + item.scalar + "\"");
  }
  return fmt::format("[{}]", fmt::join(quoted, ", "));
}

}  // namespace autoglm::options_detail
