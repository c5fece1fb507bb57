#include "formats/pickle.h"

#include <chrono>

#include "tests/formats/torch_builder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

namespace {

std::string refusal(const std::string& bytes) {
  return error_of(ErrorKind::kInput, [&] { read_pickle(bytes, "f"); });
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

std::string repeat(const std::string& part, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += part;
  return out;
}

const PickleValue& top(const Pickle& pickle) {
  return pickle.values[pickle.top];
}

}  // namespace

TEST_CASE("pickle: numbers, text and containers") {
  const std::string bytes =
      pickle(tuple({"K\x07", "M" + little(300, 2), "J" + little(0xffffffff, 4),
                    "\x8a" + std::string(1, '\0'), "\x8a\x01\xff",
                    "\x8a\x03" + little(70000, 3), "N", "\x88", text("é"),
                    "\x8c\x02hi", "C\x01x", "G" + little(0, 8),
                    "](K\x01K\x02"
                    "e",
                    mapping({{"a", "N"}}), "\x8f"}));
  const Pickle read = read_pickle(bytes, "f");
  const auto item = [&](std::size_t i) {
    return read.values[top(read).items[i]];
  };
  REQUIRE(top(read).items.size() == 15);
  const std::int64_t numbers[] = {7, 300, -1, 0, -1, 70000};
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(item(i).kind == PickleKind::kInt);
    CHECK(item(i).number == numbers[i]);
  }
  CHECK(item(6).kind == PickleKind::kNone);
  CHECK(item(7).number == 1);
  CHECK(item(8).text == "é");
  CHECK(item(9).text == "hi");
  CHECK(item(10).kind == PickleKind::kBytes);
  CHECK(item(11).kind == PickleKind::kFloat);
  CHECK(item(12).items.size() == 2);
  CHECK(item(13).items.size() == 2);
  CHECK(item(14).kind == PickleKind::kOpaque);
  CHECK(read.length == bytes.size());
}

TEST_CASE("pickle: memo, frames and the names of protocol 4") {
  const Pickle read = read_pickle("\x80\x04\x95" + little(99, 8) +
                                      "(\x8c\x01z\x94h" + std::string(1, '\0') +
                                      "\x8c\x0b"
                                      "collections\x8c\x0bOrderedDict\x93)Rt.",
                                  "f");
  REQUIRE(top(read).items.size() == 3);
  CHECK(top(read).items[0] == top(read).items[1]);
  CHECK(read.values[top(read).items[2]].kind == PickleKind::kDict);
}

TEST_CASE("pickle: other opcodes are refused by name and place") {
  CHECK(contains(refusal("\x80\x02(ios\nsystem\n."),
                 "f: byte 3: opcode INST is refused"));
  CHECK(contains(refusal("\x80\x02)\x81."), "byte 3: opcode NEWOBJ"));
  CHECK(contains(refusal("\x80\x02\x82\x01."), "byte 2: opcode EXT1"));
  CHECK(contains(refusal("\x80\x02I1\n."), "opcode INT"));
  CHECK(contains(refusal("\x80\x02\xfe."), "opcode 0xfe"));
  CHECK(contains(refusal("\x80\x01."), "protocol 1 is not supported"));
}

TEST_CASE("pickle: other globals are refused by name, in every spelling") {
  for (const auto& [module, name] :
       {std::pair{"posix", "system"},
        {"builtins", "eval"},
        {"builtins", "getattr"},
        {"torch", "load"},
        {"torch.hub", "load"},
        {"os", "system"},
        {"torch._utils", "_rebuild_tensor_v2.__globals__"}}) {
    const std::string full = std::string(module) + "." + name;
    CHECK(contains(refusal(pickle(global(module, name))),
                   "the global " + full + " is refused"));
    CHECK(contains(refusal(pickle(text(module) + text(name) + "\x93")),
                   "the global " + full + " is refused"));
  }
  // A name that would move the cursor, and one that would fill the screen.
  CHECK(contains(refusal(pickle(global("a\x1b[2J", "b"))), "a?[2J.b"));
  CHECK(refusal(pickle(global(std::string(100000, 'a'), "b"))).size() < 400);
}

TEST_CASE("pickle: a stack, a mark or a memo that is not there is refused") {
  for (const char* bytes :
       {"\x80\x02.",
        "\x80\x02"
        "0.",
        "\x80\x02"
        "2.",
        "\x80\x02\x85.", "\x80\x02N\x86.", "\x80\x02R.",
        "\x80\x02"
        "b.",
        "\x80\x02Q.", "\x80\x02s.", "\x80\x02q\x01.", "\x80\x02\x93."})
    CHECK(contains(refusal(bytes + std::string(1, '\0')), "byte "));
  CHECK(contains(refusal("\x80\x02N(."), "the stack is empty"));
  CHECK(contains(refusal("\x80\x02t."), "no mark"));
  CHECK(contains(refusal("\x80\x02]e."), "no mark"));
  CHECK(contains(refusal("\x80\x02h\x05."), "memo index 5 was never set"));
  CHECK(contains(refusal("\x80\x02j\xff\xff\xff\xff."), "never set"));
  // No table of four billion places.
  CHECK(contains(refusal("\x80\x02Nr\xff\xff\xff\xff."),
                 "memo index 4294967295 is impossible"));
}

TEST_CASE("pickle: values of the wrong kind are refused") {
  CHECK(contains(refusal("\x80\x02}Na."), "not a list"));
  CHECK(contains(refusal("\x80\x02]NNs."), "not a mapping"));
  CHECK(contains(refusal("\x80\x02}(Nu."), "a key has no value"));
  CHECK(contains(refusal("\x80\x02N)R."), "what REDUCE calls"));
  CHECK(contains(refusal("\x80\x02]}b."), "BUILD"));
  CHECK(contains(refusal("\x80\x02NQ."), "a persistent id is not a tuple"));
  CHECK(contains(refusal("\x80\x02NN\x93."), "not text"));
  CHECK(contains(refusal(pickle(call(global("torch", "HalfStorage"), {}))),
                 "torch.HalfStorage is called"));
  CHECK(contains(
      refusal(pickle(call(global("torch._utils", "_rebuild_tensor_v2"), {}))),
      "too few arguments"));
  CHECK(contains(
      refusal(pickle(tuple({text("module"), "N", "N", "N", "N"}) + 'Q')),
      "not that of a storage"));
}

TEST_CASE("pickle: lengths that lie are refused") {
  for (const std::string& bytes :
       {std::string("\x80"), std::string("X\xff\xff\xff\xff") + "abc",
        "\x8d" + little(~std::uint64_t{0}, 8) + "abc",
        std::string("U\x09"
                    "a"),
        "\x8b" + little(1u << 31, 4), std::string("cposix"), std::string("K"),
        std::string("\x95")})
    CHECK(contains(refusal("\x80\x02" + bytes), "cut short"));
  CHECK(contains(refusal(""), "cut short"));
}

TEST_CASE("pickle: depth, doubling and cycles cost what the file is long") {
  const auto start = std::chrono::steady_clock::now();
  const std::size_t million = 1'000'000;
  // A list in a list in a list ..., and the same with tuples.
  read_pickle(
      "\x80\x02" + repeat("]", million) + repeat("a", million - 1) + ".", "f");
  read_pickle("\x80\x02)" + repeat("\x85", million) + ".", "f");
  // Each tuple holds the one before twice: 2^million when written out.
  read_pickle("\x80\x02)" + repeat("2\x86", million) + ".", "f");
  read_pickle("\x80\x02N" + repeat("2", million) + ".", "f");
  // A list in itself.
  read_pickle(std::string("\x80\x02]q\0h\0a.", 9), "f");
  CHECK(contains(refusal("\x80\x02" + repeat("(", million) + "."),
                 "the stack is empty"));
  CHECK(contains(refusal("\x80\x02" + repeat("]", 5 * million) + "."),
                 "more than 4000000 values"));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}
