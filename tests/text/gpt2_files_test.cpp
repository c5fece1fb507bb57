#include "autoglm/core/file.h"
#include "autoglm/text/tokenizer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

using Ids = std::vector<TokenId>;

void write(const TemporaryFolder& folder, const char* merges,
           const char* vocabulary =
               R"({"a": 0, "b": 1, "ab": 2, "#": 3, "##": 4,
                   "<|endoftext|>": 5})") {
  write_file_atomically(folder / "vocab.json", vocabulary);
  write_file_atomically(folder / "merges.txt", merges);
}

}  // namespace

TEST_CASE("gpt2: only the first line of the merges is a note") {
  const TemporaryFolder folder;
  write(folder, "#version: 0.2\n# #\r\na b\n\n");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  CHECK(tokenizer.encode("ab") == Ids{2});
  CHECK(tokenizer.encode("##") == Ids{4});
  write(folder, "# #\n");
  CHECK(Tokenizer::load(folder / "merges.txt").encode("##") == Ids{4});
}

TEST_CASE("gpt2: command tokens stand behind the vocabulary by themselves") {
  const TemporaryFolder folder;
  write(folder, "a b\n");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  CHECK(tokenizer.find_token("<|startofpiece|>") == 6);
  CHECK(tokenizer.find_token("[sMASK]") == 13);
  CHECK(tokenizer.encode("ab [MASK]b[CLS]") == Ids{2, 9, 1, 8});
  CHECK(tokenizer.encode("ab", true) == Ids{8, 2, 5});
}

TEST_CASE("gpt2: files beside the vocabulary give ids and flags") {
  const TemporaryFolder folder;
  write(folder, "a b\n");
  write_file_atomically(folder / "added_tokens.json",
                        R"({"[CLS]": 20, "[MASK]": 21, "<|startofpiece|>": 22,
                            "<|endofpiece|>": 23})");
  write_file_atomically(folder / "special_tokens_map.json",
                        R"({"eos_token": "<|endoftext|>",
          "mask_token": {"content": "[MASK]", "rstrip": true}})");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  CHECK(tokenizer.encode("a[MASK] b<|endoftext|>") == Ids{0, 21, 1, 5});
  // No [gMASK]: the plain mask takes its place.
  CHECK(tokenizer.prefix() == Ids{20, 21, 5, 22});
  CHECK(tokenizer.blank_tokens().value().masks == std::vector<Ids>{{21}});
  CHECK(tokenizer.decode(Ids{20, 0, 5}, true) == "a");
}

TEST_CASE("gpt2: some other GPT-2 has no command tokens around its texts") {
  const TemporaryFolder folder;
  write(folder, "a b\n");
  write_file_atomically(folder / "added_tokens.json", R"({"<pad>": 6})");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  CHECK(tokenizer.prompt("ab") == Ids{2});
  CHECK(tokenizer.prefix().empty());
  CHECK(!tokenizer.blank_tokens().has_value());
}

TEST_CASE("gpt2: errors name file and line") {
  const TemporaryFolder folder;
  const auto text = [&] {
    return error_of(ErrorKind::kInput, [&] { Tokenizer::load(folder.path()); });
  };
  write(folder, "a b\na c\n");
  CHECK(text().find("merge 'a c' uses the token 'c'") != std::string::npos);
  CHECK(text().find((folder / "merges.txt").string() + ":2") !=
        std::string::npos);
  write(folder, "", "[]");
  CHECK(text().find("vocab.json: an object was expected") != std::string::npos);
  write(folder, "", R"({"a": 1, "b": 1})");
  CHECK(text().find("the id 1 is given to two tokens") != std::string::npos);
  write(folder, "", R"({"a": 99999999})");
  CHECK(text().find("the id of 'a' is not a number from 0 to") !=
        std::string::npos);
  write(folder, "a b\n");
  write_file_atomically(folder / "added_tokens.json", R"({"<x>": -1})");
  CHECK(text().find("added_tokens.json: the id of '<x>' is not a number") !=
        std::string::npos);
  std::filesystem::remove(folder / "merges.txt");
  CHECK(text().find("merges.txt") != std::string::npos);
}
