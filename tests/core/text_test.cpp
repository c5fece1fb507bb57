#include "autoglm/core/text.h"

#include "tests/support/throws.h"

using namespace autoglm;

TEST_CASE("text: globs match whole names") {
  CHECK(matches_glob("layers.*.mlp.*", "layers.3.mlp.down"));
  CHECK(matches_glob("*", ""));
  CHECK(matches_glob("layers.?", "layers.3"));
  CHECK_FALSE(matches_glob("layers.?", "layers.13"));
  CHECK(matches_glob("layers.[0-3].x", "layers.2.x"));
  CHECK_FALSE(matches_glob("layers.[!0-3].x", "layers.2.x"));
  CHECK_FALSE(matches_glob("layers.3", "layers.3.mlp"));
  CHECK(matches_glob("a\\*b", "a*b"));
  CHECK_FALSE(matches_glob("a\\*b", "axb"));
  CHECK_FALSE(matches_glob("", "a"));
}

TEST_CASE("text: a glob of many stars does not take forever") {
  std::string pattern, name(5000, 'a');
  for (int i = 0; i < 50; ++i) pattern += "a*";
  CHECK_FALSE(matches_glob(pattern + "b", name));
}

TEST_CASE("text: near names are found, far ones are not") {
  CHECK(nearest_name("grop_size", {"bits", "group_size"}) == "group_size");
  CHECK(nearest_name("adaqunat", {"rtn", "adaquant"}) == "adaquant");
  CHECK_FALSE(nearest_name("xyzzy", {"bits", "group_size"}));
  CHECK_FALSE(nearest_name("x", {}));
  CHECK_FALSE(nearest_name("ab", {"cd"}));
}

TEST_CASE("text: sizes are written and read") {
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(16'803'944) == "16.8 MB");
  CHECK(format_bytes(999'950'000) == "1.0 GB");
  CHECK(parse_bytes("6GB") == 6'000'000'000);
  CHECK(parse_bytes("512 MiB") == 536'870'912);
  CHECK(parse_bytes("1000") == 1000);
  CHECK(parse_bytes("1.5kB") == 1500);
  for (const char* wrong : {"", "GB", "6 GBs", "-1", "1e300", "6,5GB"})
    test::error_of(ErrorKind::kConfig, [&] { parse_bytes(wrong); });
}

TEST_CASE("text: durations and counts read naturally") {
  CHECK(format_duration(0.012) == "12.0 ms");
  CHECK(format_duration(72) == "1 min 12 s");
  CHECK(format_duration(59.7) == "1 min 0 s");
  CHECK(format_duration(7260) == "2 h 1 min");
  CHECK(format_count(8'400'000) == "8.40 M");
  CHECK(format_count(512) == "512");
}

TEST_CASE("text: UTF-8 is checked byte by byte") {
  CHECK(is_utf8("a\u00e9\u4e2d\U0001F600"));
  CHECK_FALSE(is_utf8("\xC0\x80"));      // overlong
  CHECK_FALSE(is_utf8("\xED\xA0\x80"));  // surrogate
  CHECK_FALSE(is_utf8("\xF4\x90\x80\x80"));
  CHECK_FALSE(is_utf8("\xE4\xB8"));  // cut
  CHECK(is_utf8(""));
}

TEST_CASE("text: tables align numbers right and words left") {
  TextTable table({"name", "value"});
  table.add_row({"a", "1.5"});
  table.add_row({"long", "10.25"});
  CHECK(table.text() ==
        "name  value\n"
        "a       1.5\n"
        "long  10.25\n");
  CHECK(table.markdown() ==
        "| name | value |\n| --- | --- |\n| a | 1.5 |\n| long | 10.25 |\n");
}

TEST_CASE("text: HTML is escaped") {
  CHECK(escape_html("<a href=\"x\">&'") ==
        "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
}
