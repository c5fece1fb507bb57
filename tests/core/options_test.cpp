#include "autoglm/core/options.h"

#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;

namespace {

struct Sample {
  std::int64_t bits = 8;
  double ratio = 0.5;
  bool fast = false;
  std::string method = "rtn";
  std::vector<std::string> layers = {"*"};

  template <class Field>
  void visit(Field&& field) {
    field("bits", bits, "width of a code", Range{2, 8});
    field("ratio", ratio, "share", Range{0, 0.9});
    field("fast", fast, "be quick");
    field("method", method, "how", Choices{"rtn", "adaquant"});
    field("layers", layers, "which");
  }
};

Sample parse(const std::string& yaml) {
  return parse_options<Sample>(parse_config(yaml, "f.yaml"), "sample");
}

struct Entry {
  std::vector<std::string> layers = {"*"};
  std::optional<std::int64_t> bits;
  std::optional<std::string> method;
  std::optional<bool> ignore;

  template <class Field>
  void visit(Field&& field) {
    field("layers", layers, "which");
    field("bits", bits, "width of a code", Range{2, 8});
    field("method", method, "how", Choices{"rtn", "adaquant"});
    field("ignore", ignore, "leave them");
  }
};

struct Rich {
  AutoInt bits = {8};
  ByteCount max_size;
  std::vector<Entry> overrides;

  template <class Field>
  void visit(Field&& field) {
    field("bits", bits, "width of a code", Range{2, 8});
    field("max_size", max_size, "of all weights");
    field("overrides", overrides, "for some layers");
  }
};

Rich parse_rich(const std::string& yaml) {
  return parse_options<Rich>(parse_config(yaml, "f.yaml"), "rich");
}

std::string refusal(const std::string& yaml) {
  return error_of(ErrorKind::kConfig, [&] { parse_rich(yaml); });
}

}  // namespace

TEST_CASE("options: what is not given keeps its default") {
  const Sample sample = parse("{bits: 4, layers: 'a.*'}");
  CHECK(sample.bits == 4);
  CHECK(sample.ratio == 0.5);
  CHECK(sample.layers == std::vector<std::string>{"a.*"});
  CHECK(parse_options<Sample>(ConfigNode(), "sample").bits == 8);
}

TEST_CASE("options: values outside a range or a choice are refused") {
  CHECK(error_of(ErrorKind::kConfig, [] { parse("bits: 9"); }) ==
        "f.yaml:1:7: sample.bits must lie between 2 and 8, but is 9");
  CHECK(error_of(ErrorKind::kConfig, [] { parse("ratio: 0.95"); }) ==
        "f.yaml:1:8: sample.ratio must lie between 0 and 0.9, but is 0.95");
  CHECK(error_of(ErrorKind::kConfig, [] { parse("method: adaquan"); }) ==
        "f.yaml:1:9: sample.method must be one of rtn, adaquant, but is "
        "'adaquan' (did you mean 'adaquant'?)");
}

TEST_CASE("options: both ends of a range are allowed") {
  CHECK(parse("bits: 2").bits == 2);
  CHECK(parse("{bits: 8, ratio: 0.9}").ratio == 0.9);
}

TEST_CASE("options: a typo in a name gets a suggestion") {
  CHECK(error_of(ErrorKind::kConfig, [] { parse("{ratoi: 0.1}"); }) ==
        "f.yaml:1:2: unknown key 'ratoi' in sample (did you mean 'ratio'?)");
}

TEST_CASE("options: not-a-number and fractions of whole numbers are refused") {
  error_of(ErrorKind::kConfig, [] { parse("ratio: .nan"); });
  error_of(ErrorKind::kConfig, [] { parse("bits: 4.5"); });
}

TEST_CASE("options: the catalogue follows the declaration") {
  const std::vector<OptionInfo> infos = describe_options<Sample>();
  REQUIRE(infos.size() == 5);
  CHECK(infos[0].type == "int");
  CHECK(infos[0].default_text == "8");
  CHECK(infos[0].searchable());
  CHECK_FALSE(infos[2].searchable());
  CHECK(infos[3].choices == std::vector<std::string>{"rtn", "adaquant"});
  CHECK(infos[4].default_text == "[\"*\"]");
}

TEST_CASE("options: written and parsed again they are the same") {
  Sample sample;
  sample.ratio = 0.1;
  sample.layers = {"encoder.block.*", "head"};
  const Sample again = parse(to_yaml(options_to_config(sample)));
  CHECK(again.ratio == sample.ratio);
  CHECK(again.layers == sample.layers);
}

TEST_CASE("options: a whole number or the word auto") {
  CHECK(parse_rich("{}").bits.number == 8);
  CHECK(parse_rich("bits: 2").bits.number == 2);
  CHECK(parse_rich("bits: auto").bits.is_auto());
  CHECK(parse_rich("bits: 'auto'").bits.is_auto());
  CHECK(refusal("bits: automatic") ==
        "f.yaml:1:7: rich.bits should be a whole number or auto, but is "
        "'automatic'");
  CHECK(refusal("bits: 3.5") ==
        "f.yaml:1:7: rich.bits should be a whole number or auto, but is '3.5'");
  CHECK(refusal("bits: ~") ==
        "f.yaml:1:7: rich.bits should be a whole number or auto, but is "
        "nothing");
  CHECK(refusal("bits: 1") ==
        "f.yaml:1:7: rich.bits must lie between 2 and 8, but is 1");
}

TEST_CASE("options: a size is given in its own units") {
  CHECK(parse_rich("{}").max_size.bytes == 0);
  CHECK(parse_rich("max_size: 6GB").max_size.bytes == 6'000'000'000);
  CHECK(parse_rich("max_size: 1000").max_size.bytes == 1000);
  CHECK(refusal("max_size: 6XB") ==
        "'6XB' is not a size; write for example 6GB, 512MiB or a number of "
        "bytes\n  f.yaml:1:11: rich.max_size");
  CHECK(refusal("max_size: [6]") ==
        "f.yaml:1:11: rich.max_size should be text, but is a list");
}

TEST_CASE("options: a list of maps is read entry by entry") {
  const Rich rich = parse_rich(
      "overrides:\n"
      "  - {layers: [a, b], bits: 3}\n"
      "  - {layers: c, ignore: true, method: rtn}\n"
      "  - {}\n");
  REQUIRE(rich.overrides.size() == 3);
  CHECK(rich.overrides[0].layers == std::vector<std::string>{"a", "b"});
  CHECK(rich.overrides[0].bits == 3);
  CHECK_FALSE(rich.overrides[0].ignore.has_value());
  CHECK(rich.overrides[1].layers == std::vector<std::string>{"c"});
  CHECK(rich.overrides[1].ignore == true);
  CHECK(rich.overrides[1].method == "rtn");
  CHECK(rich.overrides[2].layers == std::vector<std::string>{"*"});
  CHECK(parse_rich("overrides: []").overrides.empty());
}

TEST_CASE("options: every fault in a list of maps has its place") {
  CHECK(refusal("overrides: [{bits: 3}, {bist: 3}]") ==
        "f.yaml:1:25: unknown key 'bist' in rich.overrides[1] (did you mean "
        "'bits'?)");
  CHECK(refusal("overrides:\n  - bits: 9\n") ==
        "f.yaml:2:11: rich.overrides[0].bits must lie between 2 and 8, but is "
        "9");
  CHECK(refusal("overrides: [{bits: auto}]") ==
        "f.yaml:1:20: rich.overrides[0].bits should be a whole number, but is "
        "'auto'");
  CHECK(refusal("overrides: [{method: rnt}]") ==
        "f.yaml:1:22: rich.overrides[0].method must be one of rtn, adaquant, "
        "but is 'rnt' (did you mean 'rtn'?)");
  CHECK(refusal("overrides: [{ignore: 1}]") ==
        "f.yaml:1:22: rich.overrides[0].ignore should be true or false, but is "
        "'1'");
  CHECK(refusal("overrides: {bits: 3}") ==
        "f.yaml:1:12: rich.overrides should be a list of maps, but is a map");
  CHECK(refusal("overrides: [3]") ==
        "f.yaml:1:13: rich.overrides[0] should be a map, but is '3'");
  CHECK(refusal("overrides:\n  - bits: 3\n  - ~\n") ==
        "f.yaml:3:5: rich.overrides[1] should be a map, but is nothing");
}

TEST_CASE("options: the catalogue knows the fields of a list of maps") {
  const std::vector<OptionInfo> infos = describe_options<Rich>();
  REQUIRE(infos.size() == 3);
  CHECK(infos[0].type == "int or auto");
  CHECK(infos[0].default_text == "8");
  CHECK(infos[0].searchable());
  CHECK(infos[0].fields.empty());
  CHECK(infos[1].type == "size");
  CHECK(infos[1].default_text == "0");
  CHECK(infos[2].type == "list of maps");
  CHECK(infos[2].default_text == "[]");
  CHECK_FALSE(infos[2].searchable());
  const std::vector<OptionInfo>& fields = infos[2].fields;
  REQUIRE(fields.size() == 4);
  CHECK(fields[1].name == "bits");
  CHECK(fields[1].type == "int");
  CHECK(fields[1].default_text.empty());
  REQUIRE(fields[1].range);
  CHECK(fields[1].range->high == 8);
  CHECK(fields[2].choices == std::vector<std::string>{"rtn", "adaquant"});
  CHECK(fields[3].type == "bool");
}

TEST_CASE("options: what was left out of a list of maps is not written") {
  const Rich rich = parse_rich(
      "{bits: auto, max_size: 1MiB, overrides: [{bits: 3}, {ignore: false}]}");
  const ConfigNode node = options_to_config(rich);
  CHECK(to_yaml(node) ==
        "bits: auto\n"
        "max_size: 1048576\n"
        "overrides:\n"
        "  - layers: [\"*\"]\n"
        "    bits: 3\n"
        "  - layers: [\"*\"]\n"
        "    ignore: false\n");
  CHECK(to_yaml(options_to_config(parse_rich(to_yaml(node)))) == to_yaml(node));
  CHECK(to_yaml(options_to_config(Rich())) ==
        "bits: 8\nmax_size: 0\noverrides: []\n");
}
