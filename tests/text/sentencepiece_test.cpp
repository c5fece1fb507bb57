#include <sentencepiece_processor.h>

#include "autoglm/core/file.h"
#include "autoglm/text/tokenizer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"
#include "text/sentencepiece_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;
const fs::path kSource = AUTOGLM_SOURCE_DIR;
const fs::path kGolden = kSource / "tests/golden/tokenizers";
using Ids = std::vector<TokenId>;

std::size_t bytes_of(const Tokenizer& tokenizer, const std::string& text) {
  std::size_t bytes = 0;
  for (const TokenId id : tokenizer.encode(text))
    bytes += tokenizer.token_bytes(id);
  return bytes;
}

std::size_t bytes_of_token(const Tokenizer& tokenizer, const char* token) {
  return tokenizer.token_bytes(tokenizer.find_token(token).value());
}

// A folder with the model of a golden case and one JSON file.
Tokenizer load_with(const fs::path& model, const char* name,
                    const std::string& json) {
  const TemporaryFolder folder;
  fs::copy_file(kGolden / model, folder / model.filename().c_str());
  write_file_atomically(folder / name, json);
  return Tokenizer::load(folder.path());
}

std::string load_error(const std::string& content) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "cog-pretrain.model", content);
  return error_of(ErrorKind::kInput, [&] { Tokenizer::load(folder.path()); });
}

}  // namespace

TEST_CASE("sentencepiece: long texts have the ids of an undivided one") {
  const std::string text =
      read_file(kSource / "examples/data/calibration.txt").substr(0, 100000);
  for (const char* name :
       {"sp_chatglm3/tokenizer.model", "sp_glm_chinese/cog-pretrain.model"}) {
    sentencepiece::SentencePieceProcessor library;
    REQUIRE(library.Load((kGolden / name).string()).ok());
    CHECK(SentencePieceModel(kGolden / name).encode(text) ==
          library.EncodeAsIds(text));
  }
}

TEST_CASE("sentencepiece: a text comes back, its bytes and one blank") {
  const std::string text =
      read_file(kSource / "examples/data/calibration.txt").substr(0, 50000) +
      "\u4f60\u597d \U0001F680\n\t\t  [ ]   x" + std::string(200, ' ') + "y";
  for (const char* name : {"sp_chatglm3", "sp_chatglm_6b"}) {
    const Tokenizer tokenizer = Tokenizer::load(kGolden / name);
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    CHECK(bytes_of(tokenizer, text) == text.size() + 1);
  }
}

TEST_CASE("sentencepiece: bytes of single tokens") {
  const Tokenizer chatglm = Tokenizer::load(kGolden / "sp_chatglm3");
  CHECK(bytes_of_token(chatglm, "\u2581") == 1);
  CHECK(bytes_of_token(chatglm, "\u2581the") == 4);
  CHECK(bytes_of_token(chatglm, "<0x0A>") == 1);
  CHECK(bytes_of_token(chatglm, "<s>") == 0);
  CHECK(bytes_of_token(chatglm, "[gMASK]") == 0);
  CHECK(bytes_of_token(chatglm, "<|user|>") == 0);
  const Tokenizer ice = Tokenizer::load(kGolden / "sp_chatglm_6b");
  CHECK(bytes_of_token(ice, "<n>") == 1);
  CHECK(bytes_of_token(ice, "<|tab|>") == 1);
  CHECK(bytes_of_token(ice, "<|blank_2|>") == 2);
  CHECK(bytes_of_token(ice, "<|blank_80|>") == 80);
  CHECK(bytes_of_token(ice, "[gMASK]") == 0);
  CHECK(bytes_of_token(ice, "<eop>") == 0);
  const Tokenizer chinese = Tokenizer::load(kGolden / "sp_glm_chinese");
  CHECK(chinese.token_bytes(0) == 3);  // unknown
  CHECK(bytes_of_token(chinese, "[CLS]") == 0);
}

TEST_CASE("sentencepiece: special tokens are kept or dropped when decoding") {
  const Tokenizer chatglm = Tokenizer::load(kGolden / "sp_chatglm3");
  const Ids ids = chatglm.encode("a b", true);
  CHECK(chatglm.decode(ids) == "[gMASK]sopa b");
  CHECK(chatglm.decode(ids, true) == "a b");
  const Tokenizer ice = Tokenizer::load(kGolden / "sp_chatglm_6b");
  CHECK(ice.decode(ice.encode("a\n b", true), true) == "a\n b");
}

TEST_CASE("sentencepiece: ChatGLM2 has no role tokens") {
  const Tokenizer by_name =
      load_with("sp_chatglm3/tokenizer.model", "tokenizer_config.json",
                R"({"name_or_path": "THUDM/chatglm2-6b"})");
  CHECK(!by_name.find_token("<|user|>").has_value());
  CHECK(by_name.vocabulary_size() == 2005);
  CHECK(by_name.chat_form() == ChatForm::kRoundsFromOne);
  CHECK(by_name.prefix() == Ids{2001, 2003});
  const auto with_code = [&](const char* code) {
    return load_with("sp_chatglm3/tokenizer.model", "tokenization_chatglm.py",
                     code);
  };
  CHECK(!with_code("special = ['[MASK]']").find_token("<|user|>").has_value());
  CHECK(with_code("roles = ['<|user|>']").find_token("<|user|>") == 2006);
}

TEST_CASE("sentencepiece: image tokens move the ids of ChatGLM-6B") {
  const auto with = [](const char* name, const char* json) {
    return load_with("sp_chatglm_6b/ice_text.model", name, json);
  };
  const Tokenizer moved =
      with("tokenizer_config.json", R"({"num_image_tokens": 100})");
  CHECK(moved.encode("a", true) == Ids{451, 106, 109});
  CHECK(moved.decode(Ids{5, 451, 106}) == "a[gMASK]");
  CHECK(moved.vocabulary_size() == 2100);
  CHECK(moved.token_bytes(5) == 0);
  CHECK(with("config.json", R"({"vocab_size": 22048})").prefix() ==
        Ids{20006, 20009});
  CHECK(with("config.json", R"({"vocab_size": 2048})").prefix() == Ids{6, 9});
  for (const char* json :
       {R"({"num_image_tokens": -1})", R"({"num_image_tokens": 1e9})",
        R"({"num_image_tokens": 1000000000})"})
    error_of(ErrorKind::kInput, [&] { with("tokenizer_config.json", json); });
}

TEST_CASE("sentencepiece: command tokens of GLM without a file of their own") {
  const TemporaryFolder folder;
  fs::copy_file(kGolden / "sp_glm_chinese/cog-pretrain.model",
                folder / "cog-pretrain.model");
  const Tokenizer chinese = Tokenizer::load(folder.path());
  CHECK(chinese.prefix() == Ids{1502, 1509, 1500, 1506});
  CHECK(chinese.vocabulary_size() == 1510);
  error_of(ErrorKind::kInput, [&] { chinese.decode(Ids{1505}); });
}

TEST_CASE("sentencepiece: files that lie are refused before the library") {
  const std::string good =
      read_file(kGolden / "sp_glm_chinese/cog-pretrain.model");
  CHECK(sentencepiece_problem(good) == "");
  CHECK(sentencepiece_problem("") == "it has no pieces");
  const std::string piece(
      "\x0a\x03\x0a\x01"
      "a",
      5);
  CHECK(sentencepiece_problem(piece) ==
        "it ends after 1 pieces, without its settings");
  CHECK(sentencepiece_problem(piece + "\x0a\x7f") ==
        "cut or damaged after 1 pieces");
  CHECK(sentencepiece_problem(piece + "\x0b") ==
        "cut or damaged after 1 pieces");
  CHECK(sentencepiece_problem(std::string(20, '\xff')) ==
        "cut or damaged after 0 pieces");
  for (const std::size_t size : {good.size() - 1, good.size() / 2}) {
    const std::string text = load_error(good.substr(0, size));
    CHECK(text.find("cog-pretrain.model: not a usable SentencePiece model") !=
          std::string::npos);
  }
  // The map's size is a multiple of four and less than what follows; its units
  // and texts lie inside.
  const auto with_map = [&](const std::string& map) {
    const std::string spec =
        "\x12" + std::string(1, static_cast<char>(map.size())) + map;
    return piece + std::string("\x12\x00", 2) + "\x1a" +
           std::string(1, static_cast<char>(spec.size())) + spec;
  };
  using namespace std::string_literals;
  CHECK(sentencepiece_problem(with_map("")) == "");
  for (const std::string& map :
       {"\x08\x00\x00\x00\x00\x00\x00\x00"s, "\x03\x00\x00\x00xxx\x00"s,
        "\x04\x00\x00\x00\x00\x00\x00\x00\x00"s,
        "\x04\x00\x00\x00\x00\x00\x00\x80\x01"s,
        "\x04\x00\x00\x00\x05\x00\x00\x80\x00"s})
    CHECK(sentencepiece_problem(with_map(map)) ==
          "its character map is damaged");
  CHECK(sentencepiece_problem(with_map("\x04\x00\x00\x00\x00\x00\x00\x80\x00"s))
            .empty());
}

TEST_CASE("sentencepiece: what the library refuses names the file") {
  // Sound fields, but no piece for unknown text.
  const std::string text =
      load_error(std::string("\x0a\x03\x0a\x01"
                             "a\x12\x00\x1a\x00",
                             9));
  CHECK(text.find("cog-pretrain.model: the SentencePiece library refuses it") !=
        std::string::npos);
}
