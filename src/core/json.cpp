#include "autoglm/core/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"

namespace autoglm {
namespace {

constexpr std::size_t kMaxDepth = 256;

// A key of a hostile file may hold anything and be of any length.
std::string key_text(const std::string& key) {
  std::string text =
      Json(key).dump(-1, ' ', true, Json::error_handler_t::replace);
  text = text.substr(1, text.size() - 2);
  return text.size() > 80 ? text.substr(0, 77) + "..." : text;
}

// The members of an object: where a new key's value goes, or a null pointer
// where the key is there already. `seen` is kept for every open object.
LargeJson* add_member(LargeJson::object_t& members, std::set<std::string>&,
                      const std::string& key) {
  const auto [member, fresh] = members.emplace(key, nullptr);
  return fresh ? &member->second : nullptr;
}

// An ordered object is a list: adding through its own interface would look at
// all members before.
Json* add_member(Json::object_t& members, std::set<std::string>& seen,
                 const std::string& key) {
  if (!seen.insert(key).second) return nullptr;
  members.push_back({key, nullptr});
  return &members.back().second;
}

// Builds the value from the parser's events. The library's own builder with a
// callback could find duplicate keys too, but searches all members of the
// parent after each object: 50,000 keys took it half a minute.
template <class Value>
class Builder : public nlohmann::json_sax<Value> {
 public:
  Builder(std::string_view text, const std::string& source)
      : text_(text), source_(source) {}

  Value result() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override {
    return add(value);
  }
  bool string(std::string& value) override { return add(std::move(value)); }
  // Not in JSON text.
  bool binary(typename Value::binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Value::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Value::array()); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    Open& object = open_.back();
    slot_ =
        add_member(object.value->template get_ref<typename Value::object_t&>(),
                   object.seen, name);
    if (slot_ == nullptr)
      complain(fmt::format(": the key '{}' is given twice", key_text(name)));
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::detail::exception& error) override {
    const std::string_view before = text_.substr(0, byte == 0 ? 0 : byte - 1);
    const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
    // "[json.exception...] parse error at line 3, column 14: reason"
    std::string_view why = error.what();
    const auto at = std::min(why.find("column"), why.find("] ") + 1);
    if (const auto colon = why.find(": ", at); colon != std::string_view::npos)
      why = why.substr(colon + 2);
    complain(fmt::format(":{}:{}: not valid JSON: {}",
                         std::count(before.begin(), before.end(), '\n') + 1,
                         before.size() - line_start + 1, why));
    return false;  // not reached
  }

 private:
  struct Open {
    Value* value;
    std::set<std::string> seen;
  };

  [[noreturn]] void complain(const std::string& text) const {
    fail(ErrorKind::kInput, source_ + text);
  }
  // A value's place stays where it is while it is open: nothing is added to
  // what holds it before it is closed.
  Value& place(Value value) {
    if (open_.empty()) return root_ = std::move(value);
    Value& parent = *open_.back().value;
    if (parent.is_object()) return *slot_ = std::move(value);
    parent.push_back(std::move(value));
    return parent.back();
  }
  bool add(Value value) {
    place(std::move(value));
    return true;
  }
  bool open(Value value) {
    if (open_.size() == kMaxDepth)
      complain(
          fmt::format(": JSON nested more than {} levels deep", kMaxDepth));
    open_.push_back({&place(std::move(value)), {}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& source_;
  Value root_;
  std::vector<Open> open_;
  Value* slot_ = nullptr;  // of the key read last
};

template <class Value>
Value parse(std::string_view text, const std::string& source) {
  Builder<Value> builder(text, source);
  Value::sax_parse(text, &builder);
  return builder.result();
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
  return parse<Json>(text, source);
}

LargeJson parse_large_json(std::string_view text, const std::string& source) {
  return parse<LargeJson>(text, source);
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
