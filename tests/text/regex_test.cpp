#include "text/regex.h"

#include <vector>

#include "tests/support/throws.h"

using namespace autoglm;

namespace {

std::vector<std::string> matches(const std::string& pattern,
                                 const std::string& text) {
  std::vector<std::string> out;
  Regex(pattern, "t.json").each(text, [&](std::size_t begin, std::size_t end) {
    out.push_back(text.substr(begin, end - begin));
  });
  return out;
}

}  // namespace

TEST_CASE("regex: white space is Unicode's, inside and outside of classes") {
  // U+2003 and U+0085 are white space, U+180E is not any more.
  CHECK(matches("\\s+", "a\u2003\u0085b").size() == 1);
  CHECK(matches("\\s", "\u180E").empty());
  CHECK(matches("[^\\s]+", "a\u00A0b") == std::vector<std::string>{"a", "b"});
  CHECK(matches("\\S+", "a\u3000b") == std::vector<std::string>{"a", "b"});
}

TEST_CASE("regex: empty matches are skipped") {
  CHECK(matches("x*", "axxb\u4e2d") == std::vector<std::string>{"xx"});
}

TEST_CASE("regex: a broken pattern names the file") {
  const std::string text =
      test::error_of(ErrorKind::kInput, [] { Regex("(a", "tokenizer.json"); });
  CHECK(text.find("tokenizer.json: the regular expression '(a' cannot be "
                  "used: ") == 0);
}
