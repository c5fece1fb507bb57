#include "autoglm/eval/latency_table.h"

#include <fstream>

#include "autoglm/core/file.h"
#include "tests/eval/bigram_model.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

namespace {

LatencyOptions decode() {
  LatencyOptions options;
  options.prompt = 4;
  options.generate = 2;
  options.repeats = 1;
  options.prefill = false;
  return options;
}

}  // namespace

TEST_CASE(
    "fit_latency: a line through points is found, relative errors count") {
  // 3 + 2 s.
  const LatencyFit line = fit_latency({1, 2, 10}, {5, 7, 23});
  CHECK(line.a == Approx(3));
  CHECK(line.b == Approx(2));
  CHECK(line.predict(4) == Approx(11));
  // Weights 1 and 1/4 at s = 0 and 1, and nothing else: the line meets both;
  // with a third point at s = 1 the mean of 2 and 4 counts as 1/4 : 1/16.
  const LatencyFit weighed = fit_latency({0, 1, 1}, {1, 2, 4});
  CHECK(weighed.a == Approx(1));
  CHECK(weighed.b == Approx((2 * 0.25 + 4 * 0.0625) / 0.3125 - 1));
}

TEST_CASE("fit_latency: equal sums leave the slope alone") {
  const LatencyFit one = fit_latency({2}, {5});
  CHECK(one.a == Approx(3));
  CHECK(one.b == 1);
  const LatencyFit equal = fit_latency({2, 2}, {4, 4});
  CHECK(equal.a == Approx(2));
  CHECK(equal.b == 1);
  error_of(ErrorKind::kInternal, [] { fit_latency({}, {}); });
  error_of(ErrorKind::kInternal, [] { fit_latency({1}, {0}); });
}

TEST_CASE("random_strategies: aligned, within a quarter and the whole") {
  const Architecture a = short_example(3).architecture;
  const auto strategies = random_strategies(a, {4, 16}, 64, 20, 7);
  REQUIRE(strategies.size() == 20);
  for (const auto& layers : strategies) {
    REQUIRE(layers.size() == 3);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const BlockWidths& w = layers[i].widths;
      CHECK(w.ffn % 64 == 0);
      CHECK(w.ffn <= a.blocks[i].ffn);
      CHECK(4 * w.ffn >= a.blocks[i].ffn);
      CHECK(w.query_heads % w.kv_heads == 0);
      CHECK(w.query_heads <= a.blocks[i].query_heads);
      CHECK((layers[i].bits.mlp == 4 || layers[i].bits.mlp == 16));
    }
  }
  const auto again = random_strategies(a, {4, 16}, 64, 20, 7);
  CHECK(again[5][1].widths == strategies[5][1].widths);
}

TEST_CASE("latency_table: an entry is measured once and kept in the file") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "table.json";
  const Architecture a = short_example(2).architecture;
  std::vector<LayerChoice> layers = {{a.blocks[0], {16, 4}},
                                     {a.blocks[1], {16, 4}}};
  layers[1].widths.ffn = 64;
  double sum = 0;
  {
    LatencyTable table(a, decode(), 64, file);
    sum = table.sum_ms(layers);
    CHECK(sum > 0);
    CHECK(table.measured() == 3);  // one attention, two widths of MLP
    CHECK(table.reused() == 1);
    CHECK(table.measure_ms(layers) > 0);
  }
  LatencyTable again(a, decode(), 64, file);
  CHECK(again.sum_ms(layers) == sum);
  CHECK(again.measured() == 0);
  // A part that is not there costs nothing.
  layers[0].widths.ffn = 0;
  CHECK(again.sum_ms(layers) < sum);
  CHECK(again.measured() == 0);
  // Another batch is another table in the same file.
  LatencyOptions other = decode();
  other.batch = 2;
  LatencyTable wide(a, other, 64, file);
  wide.sum_ms({layers[1]});
  CHECK(wide.measured() == 2);
  CHECK(read_json(file).size() == 2);
}

TEST_CASE("latency_table: a file that is something else is refused") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "table.json";
  const Architecture a = short_example(1).architecture;
  for (const char* text : {"[]", "{\"a\": 1}", "{\"a\": {\"b\": 0}}"}) {
    write_file_atomically(file, text);
    const std::string message = error_of(
        ErrorKind::kInput, [&] { LatencyTable(a, decode(), 64, file); });
    CHECK(message.find("no table of latencies") != std::string::npos);
  }
  LatencyOptions both = decode();
  both.prefill = true;
  error_of(ErrorKind::kInternal, [&] { LatencyTable(a, both, 64, ""); });
}
