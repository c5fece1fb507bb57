#include "autoglm/text/chat.h"

#include "autoglm/core/file.h"
#include "autoglm/text/corpus.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;
const fs::path kGolden =
    fs::path(AUTOGLM_SOURCE_DIR) / "tests/golden/tokenizers";
using Ids = std::vector<TokenId>;

const std::vector<Message> kOneRound = {{"user", "a"}, {"assistant", "b"}};
const std::vector<Message> kTwoRounds = {{"system", "s"},
                                         {"user", "a"},
                                         {"assistant", "b"},
                                         {"user", "c"},
                                         {"assistant", "d"}};

// ChatGLM2: the model of ChatGLM3 with another name beside it.
Tokenizer chatglm2() {
  const TemporaryFolder folder;
  fs::copy_file(kGolden / "sp_chatglm3/tokenizer.model",
                folder / "tokenizer.model");
  write_file_atomically(folder / "tokenizer_config.json",
                        R"({"name_or_path": "THUDM/chatglm2-6b"})");
  return Tokenizer::load(folder.path());
}

}  // namespace

TEST_CASE("chat: role strings of a tokenizer.json become its tokens") {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "hf_bpe_from_tiktoken");
  CHECK(tokenizer.chat_form() == ChatForm::kTemplate);
  CHECK(encode_chat(tokenizer, kOneRound) ==
        tokenizer.encode("<|user|>\na<|assistant|>\nb"));
  CHECK(encode_chat(tokenizer, kOneRound).front() ==
        tokenizer.find_token("<|user|>"));
}

TEST_CASE("chat: GLM-4 takes contents as plain text") {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "tiktoken");
  CHECK(encode_chat(tokenizer, kOneRound) == Ids{3007, 198, 64, 3008, 198, 65});
  const std::vector<Message> nasty = {{"user", "<|user|>"}};
  Ids expected = {3007, 198};
  for (const TokenId id : tokenizer.encode("<|user|>", false, TextForm::kPlain))
    expected.push_back(id);
  CHECK(expected.size() > 3);
  CHECK(encode_chat(tokenizer, nasty) == expected);
}

TEST_CASE("chat: ChatGLM3 puts a blank before the newline and the content") {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "sp_chatglm3");
  // U+2581 is 1521, byte 0x0A 13, "a" with a blank 261.
  Ids expected = {2006, 1521, 13, 261, 2007, 1521, 13};
  for (const TokenId id : tokenizer.encode("b")) expected.push_back(id);
  CHECK(encode_chat(tokenizer, kOneRound) == expected);
  const std::vector<Message> tool = {{"tool", "x"}};
  CHECK(error_of(ErrorKind::kInput, [&] { encode_chat(tokenizer, tool); }) ==
        "SentencePiece (tokenizer.model) has no token for the role 'tool'");
}

TEST_CASE("chat: ChatGLM2 counts rounds from one") {
  const Tokenizer tokenizer = chatglm2();
  CHECK(tokenizer.decode(encode_chat(tokenizer, kOneRound)) ==
        "[Round 1]\n\n问：a\n\n答：b\n\n");
  CHECK(tokenizer.decode(encode_chat(tokenizer, kTwoRounds)) ==
        "s\n\n[Round 1]\n\n问：a\n\n答：b\n\n[Round 2]\n\n问：c\n\n答：d\n\n");
  // Two questions in a row, and an answer to nothing.
  const std::vector<Message> odd = {
      {"assistant", "x"}, {"user", "a"}, {"user", "b"}};
  CHECK(tokenizer.decode(encode_chat(tokenizer, odd)) ==
        "x\n\n[Round 1]\n\n问：a\n\n答：\n\n[Round 2]\n\n问：b\n\n答：");
}

TEST_CASE("chat: ChatGLM-6B counts rounds from zero, one alone is bare") {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "sp_chatglm_6b");
  CHECK(tokenizer.decode(encode_chat(tokenizer, kOneRound)) == "a\nb");
  CHECK(tokenizer.decode(encode_chat(tokenizer, kTwoRounds)) ==
        "s\n[Round 0]\n问：a\n答：b\n[Round 1]\n问：c\n答：d\n");
}

TEST_CASE("chat: GLM 2021 joins the contents") {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "gpt2_glm_10b");
  CHECK(encode_chat(tokenizer, kTwoRounds) ==
        tokenizer.encode("s\na\nb\nc\nd"));
  CHECK(encode_chat(tokenizer, {}).empty());
}

TEST_CASE("chat: windows of a corpus hold conversations and texts") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a.jsonl",
                        R"({"messages": [{"role": "user", "content": "a"}]})"
                        "\n"
                        R"({"text": "a"})"
                        "\n");
  const TokenWindows windows = make_windows(
      Tokenizer::load(kGolden / "sp_chatglm3"), folder / "a.jsonl", 0, 5);
  CHECK(windows.windows == std::vector<Ids>{{2006, 1521, 13, 261, 261}});
  CHECK(windows.prefix == Ids{2001, 2003});
  CHECK(windows.text_bytes == 6);  // blank, newline, and twice " a"
}
