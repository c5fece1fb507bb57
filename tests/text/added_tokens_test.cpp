#include "text/added_tokens.h"

#include "tests/support/catch.h"

using namespace autoglm;

namespace {

AddedToken token(TokenId id, const std::string& content) {
  AddedToken out;
  out.id = id;
  out.content = content;
  return out;
}

std::vector<std::pair<TokenId, std::string>> split(
    std::vector<AddedToken> tokens, const std::string& text) {
  std::vector<std::pair<TokenId, std::string>> out;
  for (const TextPart& part : AddedTokenFinder(std::move(tokens)).split(text))
    out.emplace_back(part.id, std::string(part.text));
  return out;
}

using Parts = std::vector<std::pair<TokenId, std::string>>;

}  // namespace

TEST_CASE("added tokens: the longest of the leftmost wins") {
  CHECK(split({token(1, "ab"), token(2, "abc"), token(3, "b")}, "xabcb") ==
        Parts{{-1, "x"}, {2, "abc"}, {3, "b"}});
  CHECK(split({}, "abc") == Parts{{-1, "abc"}});
  CHECK(split({token(1, "a")}, "").empty());
}

TEST_CASE(
    "added tokens: stripping takes white space, but not another token's") {
  AddedToken left = token(1, "<l>"), right = token(2, "<r>");
  left.lstrip = true;
  right.rstrip = true;
  CHECK(split({left, right}, "a \n<l> b<r>\t c") ==
        Parts{{-1, "a"}, {1, " \n<l>"}, {-1, " b"}, {2, "<r>\t "}, {-1, "c"}});
  CHECK(split({left, right}, "<r> <l>") == Parts{{2, "<r> "}, {1, "<l>"}});
}

TEST_CASE("added tokens: a single word is not found inside another word") {
  AddedToken word = token(1, "GLM");
  word.single_word = true;
  CHECK(split({word}, "GLM, xGLM GLM4 GLM") ==
        Parts{{1, "GLM"}, {-1, ", xGLM GLM4 "}, {1, "GLM"}});
  CHECK(split({word}, "\u00e9GLM") == Parts{{-1, "\u00e9GLM"}});
}
