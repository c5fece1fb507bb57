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

using Ids = std::vector<TokenId>;

Ids ids_of(const Json& entry, const char* key) { return entry[key].get<Ids>(); }

// All cases of one kind of tokenizer, from the library that about.json names.
void check_cases(const Tokenizer& tokenizer, const fs::path& folder) {
  const std::pair<const char*, TextForm> forms[] = {
      {"ids", TextForm::kUsual},
      {"ids_plain", TextForm::kPlain},
      {"ids_roles", TextForm::kSpecials},
      {"ids_no_dummy_prefix", TextForm::kContinued}};
  const Json cases = read_json(folder / "cases.json");
  CHECK(cases.size() > 200);
  for (const Json& entry : cases) {
    INFO("text: " << entry["text"].dump(-1, ' ', true));
    if (!entry["text"].is_null()) {
      const std::string text = entry["text"].get<std::string>();
      for (const auto& [key, form] : forms)
        if (entry.contains(key))
          CHECK(tokenizer.encode(text, false, form) == ids_of(entry, key));
      CHECK(tokenizer.encode(text, true) == ids_of(entry, "ids_with_special"));
    }
    if (entry.contains("decoded"))
      CHECK(tokenizer.decode(ids_of(entry, "ids")) ==
            entry["decoded"].get<std::string>());
    if (entry.contains("decoded_skip_special"))
      CHECK(tokenizer.decode(ids_of(entry, "ids_with_special"), true) ==
            entry["decoded_skip_special"].get<std::string>());
  }
  const Json specials =
      read_json(folder / "about.json").value("specials", Json::object());
  for (const auto& [name, id] : specials.items()) {
    INFO(name);
    CHECK(tokenizer.find_token(name) == id.get<TokenId>());
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

TEST_CASE("tokenizer: all golden cases of the other kinds are exact") {
  for (const char* name : {"tiktoken", "sp_chatglm3", "sp_chatglm_6b",
                           "sp_glm_chinese", "gpt2_glm_10b"}) {
    INFO(name);
    check_cases(Tokenizer::load(kGolden / name), kGolden / name);
  }
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
  CHECK(text("t04_tiktoken_bad_base64")
            .find("tokenizer.model:257: base64, a blank and a rank were "
                  "expected") != std::string::npos);
  CHECK(text("t05_sentencepiece_cut")
            .find("tokenizer.model: not a usable SentencePiece model: cut or "
                  "damaged after 1 pieces") != std::string::npos);
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

TEST_CASE("tokenizer: a folder says whether and which kind it holds") {
  const std::pair<const char*, const char*> kinds[] = {
      {"hf_bpe_added", "byte-level BPE (tokenizer.json)"},
      {"tiktoken", "byte-level BPE (tiktoken tokenizer.model)"},
      {"sp_chatglm3", "SentencePiece (tokenizer.model)"},
      {"sp_chatglm_6b", "SentencePiece (ice_text.model)"},
      {"sp_glm_chinese", "SentencePiece (cog-pretrain.model)"},
      {"gpt2_glm_10b", "GPT-2 BPE (vocab.json, merges.txt)"}};
  for (const auto& [name, kind] : kinds) {
    CHECK(Tokenizer::exists(kGolden / name));
    CHECK(Tokenizer::load(kGolden / name).kind() == kind);
  }
  const TemporaryFolder folder;
  CHECK(!Tokenizer::exists(folder.path()));
  CHECK(error_of(ErrorKind::kInput, [&] { Tokenizer::load(folder.path()); })
            .find("no tokenizer file in the folder (looked for "
                  "tokenizer.json, tokenizer.model, ") != std::string::npos);
  write_file_atomically(folder / "vocab.txt", "[PAD]\n[UNK]\n");
  CHECK(Tokenizer::exists(folder.path()));
  CHECK(error_of(ErrorKind::kInput, [&] { Tokenizer::load(folder.path()); }) ==
        (folder / "vocab.txt").string() +
            ": BERT WordPiece vocabularies (GLM-base, GLM-large) are not "
            "supported");
}

TEST_CASE("tokenizer: a file under another name is told by its content") {
  const TemporaryFolder folder;
  const auto kind = [&](const fs::path& file) {
    fs::copy_file(kGolden / file, folder / "other",
                  fs::copy_options::overwrite_existing);
    return Tokenizer::load(folder / "other").kind();
  };
  CHECK(kind("hf_bpe_added/tokenizer.json") ==
        "byte-level BPE (tokenizer.json)");
  CHECK(kind("tiktoken/tokenizer.model") ==
        "byte-level BPE (tiktoken tokenizer.model)");
  CHECK(kind("sp_chatglm3/tokenizer.model") ==
        "SentencePiece (tokenizer.model)");
  write_file_atomically(folder / "empty", "");
  error_of(ErrorKind::kInput, [&] { Tokenizer::load(folder / "empty"); });
  error_of(ErrorKind::kInput, [&] { Tokenizer::load(folder / "missing"); });
}

TEST_CASE("tokenizer: evaluated texts begin as the family has it") {
  const auto prefix = [](const char* name) {
    return Tokenizer::load(kGolden / name).prefix();
  };
  CHECK(prefix("tiktoken") == Ids{3002, 3004});
  CHECK(prefix("sp_chatglm3") == Ids{2001, 2003});
  CHECK(prefix("sp_chatglm_6b") == Ids{6, 9});
  CHECK(prefix("gpt2_glm_10b") == Ids{1803, 1807, 1800, 1801});
  CHECK(prefix("sp_glm_chinese") == Ids{1502, 1509, 1500, 1506});
}

TEST_CASE("tokenizer: a prompt is the text and what the family puts around") {
  const auto prompt = [](const char* name, const char* text) {
    return Tokenizer::load(kGolden / name).prompt(text);
  };
  CHECK(prompt("tiktoken", "a") == Ids{3002, 3004, 64});
  CHECK(prompt("tiktoken", "") == Ids{3002, 3004});
  CHECK(prompt("sp_chatglm3", "a") == Ids{2001, 2003, 261});
  CHECK(prompt("sp_chatglm_6b", "a") == Ids{351, 6, 9});
  CHECK(prompt("sp_chatglm_6b", "a[MASK]") == Ids{351, 5, 9});
  CHECK(prompt("gpt2_glm_10b", "a") == Ids{1803, 64, 1807, 1800, 1801});
  CHECK(prompt("gpt2_glm_10b", "a [MASK]") == Ids{1803, 64, 1804, 1800, 1801});
  // The usual reading of the Chinese GLM leaves "[sMASK]" to SentencePiece.
  CHECK(prompt("sp_glm_chinese", "a") == Ids{1502, 6, 1509, 1500, 1506});
  CHECK(prompt("sp_glm_chinese", "a [sMASK]") ==
        Ids{1502, 6, 1508, 1500, 1506});
  error_of(ErrorKind::kInput, [&] { prompt("sp_chatglm3", "a\xFF"); });
}

TEST_CASE("tokenizer: only the families with two positions have blanks") {
  for (const char* name : {"hf_bpe_added", "tiktoken", "sp_chatglm3"})
    CHECK(!Tokenizer::load(kGolden / name).blank_tokens().has_value());
  const auto blanks = [](const char* name) {
    return Tokenizer::load(kGolden / name).blank_tokens().value();
  };
  CHECK(blanks("sp_chatglm_6b").masks == std::vector<Ids>{{6}, {5}});
  CHECK(blanks("sp_chatglm_6b").start == 9);
  CHECK(blanks("gpt2_glm_10b").masks == std::vector<Ids>{{1807, 1804, 1808}});
  CHECK(blanks("gpt2_glm_10b").start == 1801);
  CHECK(blanks("sp_glm_chinese").masks == std::vector<Ids>{{1509, 1503, 1508}});
  CHECK(blanks("sp_glm_chinese").start == 1506);
}

TEST_CASE("tokenizer: every byte-level kind gives back any text") {
  const std::string text =
      read_file(kSource / "examples/data/calibration.txt").substr(0, 50000) +
      "\u4f60\u597d \U0001F680\r\n\t\t  x\u0301 \u00a0[CLS] <|user|> 123456 ";
  for (const char* name : {"tiktoken", "gpt2_glm_10b", "hf_bpe_added"}) {
    INFO(name);
    const Tokenizer tokenizer = Tokenizer::load(kGolden / name);
    const Ids ids = tokenizer.encode(text, false, TextForm::kPlain);
    CHECK(tokenizer.decode(ids) == text);
    std::size_t bytes = 0;
    for (const TokenId id : ids) bytes += tokenizer.token_bytes(id);
    CHECK(bytes == text.size());
  }
}

TEST_CASE("tokenizer: every kind takes an empty text and refuses bad ones") {
  for (const char* name : {"tiktoken", "sp_chatglm3", "sp_chatglm_6b",
                           "sp_glm_chinese", "gpt2_glm_10b", "hf_bpe_added"}) {
    INFO(name);
    const Tokenizer tokenizer = Tokenizer::load(kGolden / name);
    CHECK(tokenizer.encode("").empty());
    CHECK(tokenizer.decode(Ids{}) == "");
    error_of(ErrorKind::kInput, [&] { tokenizer.encode("a\xC3"); });
    for (const auto id :
         {TokenId{-1}, static_cast<TokenId>(tokenizer.vocabulary_size())}) {
      error_of(ErrorKind::kInput, [&] { tokenizer.decode(Ids{id}); });
      CHECK(tokenizer.token_bytes(id) == 0);
    }
    CHECK(!tokenizer.find_token("no such token").has_value());
  }
}
