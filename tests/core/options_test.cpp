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
