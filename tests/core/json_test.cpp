#include "autoglm/core/json.h"

#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;

TEST_CASE("json: a syntax error has file, line and column") {
  const std::string text = error_of(
      ErrorKind::kInput, [] { parse_json("{\n  \"a\": }", "config.json"); });
  CHECK(text.find("config.json:2:8: not valid JSON: ") == 0);
}

TEST_CASE("json: hostile nesting is refused before parsing") {
  const std::string deep(200000, '[');
  CHECK(error_of(ErrorKind::kInput, [&] { parse_json(deep, "c.json"); }) ==
        "c.json: JSON nested more than 256 levels deep");
  CHECK_NOTHROW(
      parse_json(std::string(256, '[') + std::string(256, ']'), "c.json"));
}

TEST_CASE("json: brackets in strings do not count as nesting") {
  CHECK_NOTHROW(
      parse_json("\"" + std::string(1000, '[') + "\\\"[\"", "c.json"));
}

TEST_CASE("json: a key given twice is refused") {
  CHECK(error_of(ErrorKind::kInput, [] {
          parse_json("{\"a\": 1, \"b\": {\"a\": 1}, \"a\": 2}", "c.json");
        }) == "c.json: the key 'a' is given twice");
  CHECK_NOTHROW(parse_json("{\"a\": {\"x\": 1}, \"b\": {\"x\": 1}}", "c.json"));
}

TEST_CASE("json: typed reads name file, field and finding") {
  const Json json = parse_json("{\"n\": \"8\", \"x\": 1.5}", "c.json");
  CHECK(error_of(ErrorKind::kInput, [&] { json_int(json, "m", "c.json"); }) ==
        "c.json: m is missing");
  CHECK(error_of(ErrorKind::kInput, [&] { json_int(json, "n", "c.json"); }) ==
        "c.json: n should be an integer, but is \"8\"");
  error_of(ErrorKind::kInput, [&] { json_int(json, "x", "c.json"); });
  CHECK(json_double(json, "x", "c.json") == 1.5);
  CHECK(json_int_or(json, "m", 3, "c.json") == 3);
}
