#include "autoglm/core/file.h"
#include "autoglm/core/text.h"
#include "autoglm/text/tokenizer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"
#include "text/tokenizer_files.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

const std::filesystem::path kGolden =
    std::filesystem::path(AUTOGLM_SOURCE_DIR) / "tests/golden/tokenizers";

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned bits = 0;
    for (std::size_t k = i; k < i + 3; ++k)
      bits = bits << 8 |
             (k < bytes.size() ? static_cast<unsigned char>(bytes[k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k)
      out += k <= bytes.size() - i ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

// The 256 bytes in order, then `tokens`.
std::string ranks(const std::vector<std::string>& tokens) {
  std::string out;
  int rank = 0;
  for (int b = 0; b < 256; ++b)
    out += fmt::format("{} {}\n", base64(std::string(1, static_cast<char>(b))),
                       rank++);
  for (const std::string& token : tokens)
    out += fmt::format("{} {}\n", base64(token), rank++);
  return out;
}

Tokenizer load(const std::string& content, const std::string& config = "") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "tokenizer.model", content);
  if (!config.empty())
    write_file_atomically(folder / "tokenizer_config.json", config);
  return Tokenizer::load(folder.path());
}

std::string load_error(const std::string& content,
                       const std::string& config = "") {
  return error_of(ErrorKind::kInput, [&] { load(content, config); });
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("tiktoken: the pair that becomes the lowest rank merges first") {
  // "bc" 256 before "ab" 257; then "abc" of "a" and "bc".
  const Tokenizer tokenizer = load(ranks({"bc", "ab", "abc", "bca"}));
  CHECK(tokenizer.encode("abc") == std::vector<TokenId>{258});
  CHECK(tokenizer.encode("abcb") == std::vector<TokenId>{258, 'b'});
  CHECK(tokenizer.encode("bcab") == std::vector<TokenId>{256, 257});
  CHECK(tokenizer.find_token("bca") == 259);
}

TEST_CASE("tiktoken: a piece that is a token is taken whole") {
  // No merges lead to "xyz".
  const Tokenizer tokenizer = load(ranks({"xyz"}));
  CHECK(tokenizer.encode("xyz") == std::vector<TokenId>{256});
  CHECK(tokenizer.encode("xyzx") == std::vector<TokenId>{'x', 'y', 'z', 'x'});
}

TEST_CASE("tiktoken: special tokens follow the ranks") {
  const Tokenizer usual = load(ranks({}));
  CHECK(usual.vocabulary_size() == 256 + 14);
  CHECK(usual.find_token("<|endoftext|>") == 256);
  CHECK(usual.find_token("<|end_of_video|>") == 269);
  CHECK(usual.prefix() == std::vector<TokenId>{258, 260});
  const Tokenizer named =
      load(ranks({}),
           R"({"additional_special_tokens": ["<x>", {"content": "<y>"}]})");
  CHECK(named.encode("<y><x>") == std::vector<TokenId>{257, 256});
  CHECK(named.prefix().empty());
  const Tokenizer listed =
      load(ranks({}), R"({"added_tokens_decoder": {"300": {"content": "<z>"},
                          "256": {"content": "<x>", "rstrip": true}}})");
  CHECK(listed.encode("<x> <z>") == std::vector<TokenId>{256, 300});
  CHECK(listed.vocabulary_size() == 301);
}

TEST_CASE("tiktoken: files that lie are refused") {
  CHECK(has(load_error(ranks({"ab"}) + "YWI= 257\n"),
            "ranks 256 and 257 have the same token"));
  CHECK(has(load_error(ranks({}) + "YWI= 255\n"),
            "rank 255 is given to two tokens"));
  CHECK(has(load_error(ranks({}) + "YWI= 1000000\n"), "no token has rank 256"));
  CHECK(has(load_error(ranks({}) + "YWI= 99999999\n"),
            ":257: rank 99999999 is not a number from 0 to"));
  CHECK(has(load_error(ranks({}) + "YWI= 99999999999999\n"), ":257: base64"));
  CHECK(has(load_error(ranks({}) + "YWI=\n"), ":257: base64"));
  CHECK(has(load_error(ranks({}) + "Y?I= 256\n"), ":257: base64"));
  CHECK(has(load_error(ranks({std::string(2000, 'a')})),
            ":257: a token has 1 to 1024 bytes"));
  CHECK(has(load_error("YQ== 0\n"), "no token for the byte 0x00"));
  CHECK(
      has(load_error(ranks({}), R"({"added_tokens_decoder": {"400": "<x>"}})"),
          "it ends after 256 ranks"));
  CHECK(has(load_error(ranks({}), R"({"added_tokens_decoder": {"x": "<x>"}})"),
            "'x' is not an id"));
  CHECK(has(load_error(ranks({}), R"({"additional_special_tokens": 3})"),
            "additional_special_tokens should be a list"));
}

TEST_CASE("tiktoken: content tells it from SentencePiece") {
  CHECK(is_tiktoken("IQ== 0\nIg== 1\n"));
  CHECK(is_tiktoken("IQ== 0\r\n"));
  CHECK(!is_tiktoken(""));
  CHECK(!is_tiktoken("IQ= 0\n"));
  CHECK(!is_tiktoken(read_file(kGolden / "sp_chatglm3/tokenizer.model")));
}
