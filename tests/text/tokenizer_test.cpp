#include "autoglm/text/tokenizer.h"

#include "autoglm/core/file.h"
#include "autoglm/core/json.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;
const fs::path kSource = AUTOGLM_SOURCE_DIR;
const fs::path kGolden = kSource / "tests/golden/tokenizers";

// All cases of one kind of tokenizer, from the Hugging Face tokenizers
// library (about.json says which version).
void check_cases(const Tokenizer& tokenizer, const fs::path& folder) {
  const Json cases = read_json(folder / "cases.json");
  CHECK(cases.size() > 200);
  for (const Json& entry : cases) {
    if (!entry["text"].is_null()) {
      const std::string text = entry["text"].get<std::string>();
      INFO("text: " << entry["text"].dump(-1, ' ', true));
      CHECK(tokenizer.encode(text) == entry["ids"].get<std::vector<TokenId>>());
      CHECK(tokenizer.encode(text, true) ==
            entry["ids_with_special"].get<std::vector<TokenId>>());
    }
    if (entry.contains("decoded"))
      CHECK(tokenizer.decode(entry["ids"].get<std::vector<TokenId>>()) ==
            entry["decoded"].get<std::string>());
    if (entry.contains("decoded_skip_special"))
      CHECK(tokenizer.decode(
                entry["ids_with_special"].get<std::vector<TokenId>>(), true) ==
            entry["decoded_skip_special"].get<std::string>());
  }
}

std::string load_error(const std::string& json) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "tokenizer.json", json);
  return error_of(ErrorKind::kInput, [&] { Tokenizer::load(folder.path()); });
}

}  // namespace

TEST_CASE("tokenizer: all golden cases of the plain GLM-4 kind are exact") {
  // The fixture's tokenizer.json is byte for byte that of the example.
  check_cases(Tokenizer::load(kSource / "examples/glm-books"),
              kGolden / "hf_bpe");
}

TEST_CASE("tokenizer: all golden cases with added tokens are exact") {
  check_cases(Tokenizer::load(kGolden / "hf_bpe_added"),
              kGolden / "hf_bpe_added");
}

TEST_CASE("tokenizer: all golden cases converted from tiktoken are exact") {
  check_cases(Tokenizer::load(kGolden / "hf_bpe_from_tiktoken"),
              kGolden / "hf_bpe_from_tiktoken");
}

TEST_CASE(
    "tokenizer: the prefix comes from the template, else from the names") {
  const Tokenizer with = Tokenizer::load(kSource / "examples/glm-books");
  CHECK(with.prefix() == std::vector<TokenId>{4088, 4090});
  const Tokenizer without = Tokenizer::load(kGolden / "hf_bpe_added");
  CHECK(without.prefix() == std::vector<TokenId>{*without.find_token("[gMASK]"),
                                                 *without.find_token("<sop>")});
}

TEST_CASE("tokenizer: bytes of tokens add up to the bytes of the text") {
  const Tokenizer tokenizer = Tokenizer::load(kSource / "examples/glm-books");
  const std::string text =
      "Zwölf Boxkämpfer \U0001F600 jagen\n\n\tViktor 12345";
  std::size_t bytes = 0;
  for (const TokenId id : tokenizer.encode(text))
    bytes += tokenizer.token_bytes(id);
  CHECK(bytes == text.size());
  CHECK(tokenizer.token_bytes(*tokenizer.find_token("[gMASK]")) == 0);
}

TEST_CASE("tokenizer: a real text comes back unchanged") {
  const Tokenizer tokenizer = Tokenizer::load(kSource / "examples/glm-books");
  const std::string text =
      read_file(kSource / "examples/data/calibration.txt").substr(0, 200000);
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("tokenizer: hostile texts take no quadratic time and no stack") {
  const Tokenizer tokenizer = Tokenizer::load(kSource / "examples/glm-books");
  for (const char* unit : {"a", " ", "\n", "1", "!", "\u4e2d", " a"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

TEST_CASE("tokenizer: invalid UTF-8 and unknown ids are refused") {
  const Tokenizer tokenizer = Tokenizer::load(kSource / "examples/glm-books");
  CHECK(error_of(ErrorKind::kInput, [&] { tokenizer.encode("a\xFF"); }) ==
        "the text is not valid UTF-8");
  CHECK(error_of(ErrorKind::kInput, [&] {
          const std::vector<TokenId> ids = {99999};
          tokenizer.decode(ids);
        }) == "token id 99999 is not in the vocabulary");
}

TEST_CASE("tokenizer: damaged files are refused by name") {
  const fs::path broken = kSource / "tests/golden/broken_tokenizers";
  const auto text = [&](const char* name) {
    return error_of(ErrorKind::kInput, [&] { Tokenizer::load(broken / name); });
  };
  CHECK(text("t01_merge_unknown").find("ab c") != std::string::npos);
  CHECK(text("t02_not_json").find("tokenizer.json") != std::string::npos);
  CHECK(text("t03_model_unknown").find("unsupported tokenizer model Quantum") !=
        std::string::npos);
}

TEST_CASE("tokenizer: parts that are not supported are named") {
  CHECK(load_error("{\"normalizer\": {\"type\": \"NFKC\"}}")
            .find("normalizer NFKC is not supported") != std::string::npos);
  CHECK(load_error("{\"pre_tokenizer\": {\"type\": \"Metaspace\"}}")
            .find("pre_tokenizer: Metaspace is not supported") !=
        std::string::npos);
  CHECK(load_error("{}").find("model is missing") != std::string::npos);
  CHECK(load_error("[]").find("an object was expected") != std::string::npos);
  CHECK(load_error("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, "
                   "\"merges\": []}, \"pre_tokenizer\": {\"type\": "
                   "\"ByteLevel\"}}")
            .find("the id of 'a' is not a number") != std::string::npos);
}
