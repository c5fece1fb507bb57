#include "autoglm/text/corpus.h"

#include "autoglm/core/file.h"
#include "autoglm/core/json.h"
#include "autoglm/core/log.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {
const std::filesystem::path kSource = AUTOGLM_SOURCE_DIR;
}

TEST_CASE("corpus: json lines hold text or messages") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a.jsonl",
                        "{\"text\": \"one\"}\n\n"
                        "{\"messages\": [{\"role\": \"user\", \"content\": "
                        "\"hi\"}, {\"role\": \"assistant\", \"content\": "
                        "\"ho\"}]}\n");
  const std::vector<Document> documents = read_corpus(folder / "a.jsonl");
  REQUIRE(documents.size() == 2);
  CHECK(std::get<std::string>(documents[0]) == "one");
  const auto& messages = std::get<std::vector<Message>>(documents[1]);
  REQUIRE(messages.size() == 2);
  CHECK(messages[0].role == "user");
  CHECK(messages[1].content == "ho");
}

TEST_CASE("corpus: a bad line is named by file and number") {
  const TemporaryFolder folder;
  const std::string file = (folder / "a.jsonl").string();
  write_file_atomically(folder / "a.jsonl",
                        "{\"text\": \"one\"}\n{\"x\": 1}\n");
  CHECK(error_of(ErrorKind::kInput, [&] { read_corpus(folder / "a.jsonl"); }) ==
        file + ":2: an object with 'text' or 'messages' was expected");
  write_file_atomically(folder / "b.txt", "a\xFF");
  CHECK(error_of(ErrorKind::kInput, [&] { read_corpus(folder / "b.txt"); }) ==
        (folder / "b.txt").string() + ": the text is not valid UTF-8");
  write_file_atomically(folder / "c.csv", "a");
  error_of(ErrorKind::kInput, [&] { read_corpus(folder / "c.csv"); });
}

TEST_CASE("windows: consecutive runs of the text, none overlapping") {
  set_log_level(LogLevel::kError);
  const TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(kSource / "examples/glm-books");
  const std::string text =
      "It was the best of times, it was the worst of times.";
  write_file_atomically(folder / "a.txt", text);
  const std::vector<TokenId> ids = tokenizer.encode(text);
  const TokenWindows windows = make_windows(tokenizer, folder / "a.txt", 0, 4);
  CHECK(windows.prefix == tokenizer.prefix());
  CHECK(windows.count() == static_cast<std::int64_t>(ids.size() / 4));
  std::vector<TokenId> joined;
  for (const auto& window : windows.windows)
    joined.insert(joined.end(), window.begin(), window.end());
  CHECK(std::equal(joined.begin(), joined.end(), ids.begin()));
  CHECK(tokenizer.decode(joined).size() == windows.text_bytes);
}

TEST_CASE("windows: without a prefix the first token's bytes do not count") {
  const TemporaryFolder folder;
  Json file = read_json(kSource / "examples/glm-books/tokenizer.json");
  file["post_processor"] = nullptr;
  file["added_tokens"] = Json::array();
  file["model"]["vocab"].erase("[gMASK]");
  write_file_atomically(folder / "tokenizer.json", file.dump());
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  write_file_atomically(folder / "a.txt", "It was the best of times.");
  const TokenWindows windows = make_windows(tokenizer, folder / "a.txt", 1, 4);
  REQUIRE(windows.prefix.empty());
  const auto& window = windows.windows[0];
  CHECK(windows.text_bytes ==
        tokenizer.decode({window.begin() + 1, window.end()}).size());
}

TEST_CASE("windows: too little text is an error, less than asked a warning") {
  const TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(kSource / "examples/glm-books");
  write_file_atomically(folder / "a.txt", "one two three");
  const std::string text = error_of(ErrorKind::kInput, [&] {
    make_windows(tokenizer, folder / "a.txt", 1, 100);
  });
  CHECK(text.find("tokens are fewer than one window of 100") !=
        std::string::npos);
  CHECK(make_windows(tokenizer, folder / "a.txt", 50, 1).count() < 50);
}

TEST_CASE("windows: without a tokenizer bytes stand for tokens") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a.jsonl",
                        "{\"text\": \"ab\\u00e9\"}\n"
                        "{\"messages\": [{\"role\": \"user\", "
                        "\"content\": \"c\"}]}\n");
  const TokenWindows windows = make_byte_windows(200, folder / "a.jsonl", 0, 3);
  // a, b, the two bytes of e acute modulo 200, then c and its line end.
  CHECK(windows.windows ==
        std::vector<std::vector<TokenId>>{{97, 98, 0xC3}, {0xA9, 99, 10}});
  CHECK(windows.prefix.empty());
  CHECK(windows.text_bytes == 4);  // the first of each is not predicted
  CHECK(make_byte_windows(100, folder / "a.jsonl", 1, 3).windows[0][2] ==
        0xC3 - 100);
}

TEST_CASE("windows: spread ones come from all of the text") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>('!' + i % 90);
  write_file_atomically(folder / "a.txt", text);
  const TokenWindows all = make_byte_windows(256, folder / "a.txt", 0, 10);
  REQUIRE(all.count() == 10);
  const TokenWindows some =
      make_byte_windows(256, folder / "a.txt", 4, 10, Pick::kSpread);
  REQUIRE(some.count() == 4);
  // 10 windows, 4 taken: 0, 2, 5, 7.
  CHECK(some.windows[0] == all.windows[0]);
  CHECK(some.windows[1] == all.windows[2]);
  CHECK(some.windows[2] == all.windows[5]);
  CHECK(some.windows[3] == all.windows[7]);
  // All that there are: the same as the first ones.
  CHECK(
      make_byte_windows(256, folder / "a.txt", 10, 10, Pick::kSpread).windows ==
      all.windows);
}
