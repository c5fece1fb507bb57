#include "formats/large_json.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "formats/printable.h"

namespace autoglm {
namespace {

constexpr std::size_t kMaxDepth = 256;  // as in core

// Builds the value from the parser's events. The library's own builder with a
// callback would find duplicate keys too, but searches all members of the
// parent after each object: 50,000 tensors took it half a minute.
class Builder : public nlohmann::json_sax<LargeJson> {
 public:
  Builder(std::string_view text, const std::string& source)
      : text_(text), source_(source) {}

  LargeJson result() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override {
    return add(value);
  }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // not in JSON text

  bool start_object(std::size_t) override { return open(LargeJson::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(LargeJson::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    auto& members = open_.back()->get_ref<LargeJson::object_t&>();
    const auto [member, fresh] = members.emplace(std::move(name), nullptr);
    if (!fresh)
      complain(fmt::format(": the key '{}' is given twice",
                           printable(member->first)));
    slot_ = &member->second;
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::detail::exception& error) override {
    const std::string_view before = text_.substr(0, byte == 0 ? 0 : byte - 1);
    const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
    // "[json.exception...] parse error at line 3, column 14: reason"
    std::string_view why = error.what();
    if (const auto colon = why.find(": "); colon != std::string_view::npos)
      why = why.substr(colon + 2);
    complain(fmt::format(":{}:{}: not valid JSON: {}",
                         std::count(before.begin(), before.end(), '\n') + 1,
                         before.size() - line_start + 1, why));
  }

 private:
  [[noreturn]] void complain(const std::string& text) const {
    fail(ErrorKind::kInput, source_ + text);
  }
  // The value's place stays where it is while it is open: members of a map do
  // not move, and a list does not grow below its last element.
  LargeJson& place(LargeJson value) {
    if (open_.empty()) return root_ = std::move(value);
    if (open_.back()->is_object()) return *slot_ = std::move(value);
    open_.back()->push_back(std::move(value));
    return open_.back()->back();
  }
  bool add(LargeJson value) {
    place(std::move(value));
    return true;
  }
  bool open(LargeJson value) {
    if (open_.size() == kMaxDepth)
      complain(
          fmt::format(": JSON nested more than {} levels deep", kMaxDepth));
    open_.push_back(&place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& source_;
  LargeJson root_;
  std::vector<LargeJson*> open_;
  LargeJson* slot_ = nullptr;  // of the key read last
};

}  // namespace

LargeJson parse_large_json(std::string_view text, const std::string& source) {
  Builder builder(text, source);
  LargeJson::sax_parse(text, &builder);
  return builder.result();
}

}  // namespace autoglm
