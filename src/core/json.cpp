#include "autoglm/core/json.h"

#include <fmt/format.h>

#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"

namespace autoglm {
namespace {

constexpr int kMaxDepth = 256;

// Levels of nesting, counted before parsing so that no parser recursion or
// destructor ever sees a hostile depth.
int nesting(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

std::string position(std::string_view text, std::size_t byte) {
  std::size_t line = 1, column = 1;
  for (std::size_t i = 0; i + 1 < byte && i < text.size(); ++i) {
    if (text[i] == '\n') {
      ++line;
      column = 1;
    } else {
      ++column;
    }
  }
  return fmt::format("{}:{}", line, column);
}

const Json& field(const Json& object, const char* key,
                  const std::string& source) {
  if (!object.is_object() || !object.contains(key))
    fail(ErrorKind::kInput, fmt::format("{}: {} is missing", source, key));
  return object[key];
}

[[noreturn]] void wrong_type(const Json& value, const char* key,
                             const std::string& source, const char* expected) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 37) + "...";
  fail(ErrorKind::kInput, fmt::format("{}: {} should be {}, but is {}", source,
                                      key, expected, text));
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  if (nesting(text) > kMaxDepth)
    fail(ErrorKind::kInput,
         fmt::format("{}: JSON nested more than {} levels deep", source,
                     kMaxDepth));
  // ordered_json keeps both of two equal keys; a file with two answers to one
  // question is refused instead.
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key &&
        !keys.back().insert(parsed.get<std::string>()).second)
      duplicate = parsed.get<std::string>();
    return true;
  };
  Json value;
  try {
    value = Json::parse(text, watch);
  } catch (const Json::parse_error& error) {
    // The library's text is "[json.exception...] parse error at line..: why".
    std::string_view why = error.what();
    if (const auto at = why.find("column"); at != std::string_view::npos)
      if (const auto colon = why.find(": ", at);
          colon != std::string_view::npos)
        why = why.substr(colon + 2);
    fail(ErrorKind::kInput, fmt::format("{}:{}: not valid JSON: {}", source,
                                        position(text, error.byte), why));
  }
  if (!duplicate.empty())
    fail(ErrorKind::kInput,
         fmt::format("{}: the key '{}' is given twice", source, duplicate));
  return value;
}

Json read_json(const std::filesystem::path& file) {
  return parse_json(read_file(file), file.string());
}

std::int64_t json_int(const Json& object, const char* key,
                      const std::string& source) {
  const Json& value = field(object, key, source);
  if (!value.is_number_integer()) wrong_type(value, key, source, "an integer");
  return value.get<std::int64_t>();
}

double json_double(const Json& object, const char* key,
                   const std::string& source) {
  const Json& value = field(object, key, source);
  if (!value.is_number()) wrong_type(value, key, source, "a number");
  return value.get<double>();
}

std::string json_string(const Json& object, const char* key,
                        const std::string& source) {
  const Json& value = field(object, key, source);
  if (!value.is_string()) wrong_type(value, key, source, "text");
  return value.get<std::string>();
}

std::int64_t json_int_or(const Json& object, const char* key,
                         std::int64_t fallback, const std::string& source) {
  if (!object.contains(key) || object[key].is_null()) return fallback;
  return json_int(object, key, source);
}

double json_double_or(const Json& object, const char* key, double fallback,
                      const std::string& source) {
  if (!object.contains(key) || object[key].is_null()) return fallback;
  return json_double(object, key, source);
}

bool json_bool_or(const Json& object, const char* key, bool fallback,
                  const std::string& source) {
  if (!object.contains(key) || object[key].is_null()) return fallback;
  const Json& value = object[key];
  if (!value.is_boolean()) wrong_type(value, key, source, "true or false");
  return value.get<bool>();
}

std::string to_text(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace autoglm
