#include "autoglm/core/config.h"

#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;

TEST_CASE("config: every value knows its line and column") {
  const ConfigNode root = parse_config("a: 1\nb:\n  c: [x, 'y']\n", "f.yaml");
  CHECK(root.find("a")->place.text() == "f.yaml:1:4");
  CHECK(root.find("b")->find("c")->key_place.text() == "f.yaml:3:3");
  CHECK(root.find("b")->find("c")->items[1].quoted);
  CHECK_FALSE(root.find("b")->find("c")->items[0].quoted);
}

TEST_CASE("config: a wrong type names place, key, expectation and finding") {
  const ConfigNode root = parse_config("bits: eight\nlist: [1]\n", "f.yaml");
  CHECK(error_of(ErrorKind::kConfig,
                 [&] { root.find("bits")->as_int("quantization.bits"); }) ==
        "f.yaml:1:7: quantization.bits should be a whole number, but is "
        "'eight'");
  CHECK(error_of(ErrorKind::kConfig, [&] {
          root.find("list")->as_double("list");
        }) == "f.yaml:2:7: list should be a number, but is a list");
}

TEST_CASE("config: a quoted number is text and not a number") {
  const ConfigNode root = parse_config("a: '8'", "f.yaml");
  CHECK(root.find("a")->as_string("a") == "8");
  error_of(ErrorKind::kConfig, [&] { root.find("a")->as_int("a"); });
}

TEST_CASE("config: broken YAML is reported with its place") {
  const std::string text = error_of(
      ErrorKind::kConfig, [] { parse_config("a: [1, 2\nb: 3", "f.yaml"); });
  CHECK(text.find("f.yaml:2:") == 0);
  CHECK(text.find("not valid YAML") != std::string::npos);
  CHECK(error_of(ErrorKind::kConfig, [] {
          parse_config("a: 1\na: 2\n", "f.yaml");
        }) == "f.yaml:2:1: 'a' is given twice");
}

TEST_CASE("config: hostile nesting ends in an error, not in a crash") {
  const std::string deep = std::string(200, '[') + std::string(200, ']');
  error_of(ErrorKind::kConfig, [&] { parse_config(deep, "f.yaml"); });
}

TEST_CASE("config: an unknown key names the nearest known one") {
  const ConfigNode root = parse_config("grop_size: 1", "f.yaml");
  CHECK(error_of(ErrorKind::kConfig,
                 [&] {
                   check_keys(root, {"bits", "group_size"}, "quantization");
                 }) ==
        "f.yaml:1:1: unknown key 'grop_size' in quantization (did you "
        "mean 'group_size'?)");
  const ConfigNode far = parse_config("zzzzzzzz: 1", "f.yaml");
  CHECK(error_of(ErrorKind::kConfig,
                 [&] {
                   check_keys(far, {"bits", "group_size"}, "quantization");
                 }) ==
        "f.yaml:1:1: unknown key 'zzzzzzzz' in quantization; known: "
        "bits, group_size");
}

TEST_CASE("config: overrides set, replace and reach into lists") {
  ConfigNode root = parse_config("a: {b: 1}\nl: [{x: 1}, {x: 2}]", "f.yaml");
  apply_override(root, "a.b=2");
  apply_override(root, "new.deep.key=[1, 2]");
  apply_override(root, "l.1.x=9");
  CHECK(root.find("a")->find("b")->as_int("a.b") == 2);
  CHECK(root.find("new")->find("deep")->find("key")->items.size() == 2);
  CHECK(root.find("l")->items[1].find("x")->as_int("x") == 9);
  CHECK(root.find("a")->find("b")->place.text() == "--set a.b=2");
  CHECK(error_of(ErrorKind::kConfig, [&] {
          apply_override(root, "l.7.x=1");
        }) == "--set l.7.x=1: '7' is not an entry of a list of 2");
  CHECK(error_of(ErrorKind::kConfig, [&] { apply_override(root, "=1"); }) ==
        "--set =1: write it as key.key=value");
}

TEST_CASE("config: text written and read again is the same tree") {
  ConfigNode root = ConfigNode::map();
  root.set("ratio", ConfigNode::of(0.1));
  root.set("name", ConfigNode::of("8", true));
  root.set("on", ConfigNode::of(true));
  root.set("globs", ConfigNode::of(std::vector<std::string>{"a.*", "b"}));
  root.set("none", ConfigNode());
  const std::string yaml = to_yaml(root);
  const ConfigNode again = parse_config(yaml, "f.yaml");
  CHECK(to_yaml(again) == yaml);
  CHECK(again.find("ratio")->as_double("ratio") == 0.1);
  CHECK(again.find("name")->quoted);
  CHECK(again.find("none")->is_null());
}
