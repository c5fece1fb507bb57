#include "formats/large_json.h"

#include <algorithm>
#include <unordered_set>
#include <vector>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "formats/printable.h"

namespace autoglm {
namespace {

constexpr std::size_t kMaxDepth = 256;  // as in core

// "3:14" and the reason, out of the library's "[json.exception...] parse error
// at line 3, column 14: reason".
std::string explain(const LargeJson::parse_error& error,
                    std::string_view text) {
  const std::string_view before =
      text.substr(0, error.byte == 0 ? 0 : error.byte - 1);
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  std::string_view why = error.what();
  if (const auto colon = why.find(": "); colon != std::string_view::npos)
    why = why.substr(colon + 2);
  return fmt::format("{}:{}: not valid JSON: {}",
                     std::count(before.begin(), before.end(), '\n') + 1,
                     before.size() - line_start + 1, why);
}

}  // namespace

LargeJson parse_large_json(std::string_view text, const std::string& source) {
  std::vector<std::unordered_set<std::string>> keys;  // of the open objects
  std::size_t depth = 0;
  using Event = LargeJson::parse_event_t;
  const auto watch = [&](int, Event event, LargeJson& parsed) {
    if (event == Event::object_start || event == Event::array_start) {
      if (++depth > kMaxDepth)
        fail(ErrorKind::kInput,
             fmt::format("{}: JSON nested more than {} levels deep", source,
                         kMaxDepth));
      if (event == Event::object_start) keys.emplace_back();
    } else if (event == Event::object_end || event == Event::array_end) {
      --depth;
      if (event == Event::object_end) keys.pop_back();
    } else if (event == Event::key &&
               !keys.back().insert(parsed.get<std::string>()).second) {
      fail(ErrorKind::kInput,
           fmt::format("{}: the key '{}' is given twice", source,
                       printable(parsed.get_ref<const std::string&>())));
    }
    return true;
  };
  try {
    return LargeJson::parse(text, watch);
  } catch (const LargeJson::parse_error& error) {
    fail(ErrorKind::kInput, fmt::format("{}:{}", source, explain(error, text)));
  }
}

}  // namespace autoglm
