#include "report/facts.h"

#include "autoglm/report/report.h"
#include "tests/report/sample_record.h"
#include "tests/support/catch.h"

namespace autoglm::report {
namespace {

TEST_CASE("change_percent: signed, with the digits that matter") {
  CHECK(change_percent(200, 100) == "\u221250.0 %");
  CHECK(change_percent(100, 100.5) == "+0.50 %");
  CHECK(change_percent(100, 100) == "0 %");
  CHECK(change_percent(0, 5) == "-");
}

TEST_CASE("speed: faster, slower, same, or no claim") {
  LatencyPhase before, after;
  before.median_ms = 10;
  after.median_ms = 5;
  CHECK(speed(before, after) == "2.00x faster");
  CHECK(speed(after, before) == "2.00x slower");
  CHECK(speed(before, before) == "same");
  before.simulated = true;
  CHECK(speed(before, after) == "not comparable");
  CHECK(simulated(before, after));
}

TEST_CASE("judge: the margin has the measure's unit") {
  CHECK(judge({"size", "<= 6.0 MB", 7e6, 6e6, false}).margin ==
        "missed by 1.0 MB (16.7 %)");
  CHECK(judge({"latency decode (batch 1)", "<= 2 ms", 1.5, 2, true}).margin ==
        "room left: 0.500 ms (25.0 %)");
  CHECK(judge({"kl", "<= 0", 0.5, 0, false}).margin == "missed by 0.5");
}

TEST_CASE("report_summary: every measure, marked where it is simulated") {
  Record record = sample_record();
  record.after->latency->decode.simulated = true;
  const std::string text = report_summary(record);
  for (const Comparison& row : compare(record)) {
    INFO(row.measure);
    CHECK(text.find(row.measure) != std::string::npos);
    CHECK(text.find(row.after) != std::string::npos);
  }
  CHECK(text.find("decode, per token (simulated)") != std::string::npos);
  CHECK(text.starts_with("                       "));
}

TEST_CASE("compare: the cache is a row where it changed") {
  Record record = sample_record();
  const auto row = [&] {
    std::string out;
    for (const Comparison& entry : compare(record))
      if (entry.measure == "cache per token") out += entry.change;
    return out;
  };
  CHECK(row().empty());
  record.before.cache_bytes = 512;
  record.after->cache_bytes = 512;
  CHECK(row().empty());
  record.after->cache_bytes = 128;
  CHECK(row() == "\u221275.0 %");
}

TEST_CASE("compare: a worse measure is called worse, an equal one nothing") {
  Record record = sample_record();
  record.after->scorecard->accuracy = record.before.scorecard->accuracy;
  for (const Comparison& row : compare(record)) {
    if (row.measure == "perplexity") CHECK(row.verdict == -1);
    if (row.measure == "parameters") CHECK(row.verdict == 1);
    if (row.measure == "next-token accuracy") {
      CHECK(row.verdict == 0);
      CHECK(row.change == "0");
    }
  }
}

TEST_CASE("last_state: the output, else the last finished step, else none") {
  const Record done = sample_record();
  CHECK(last_state(done) == &*done.after);
  const Record failed = failed_record();
  CHECK(last_state(failed) == &*failed.steps[0].after);
  CHECK(last_state_name(failed) == "after step 1");
  CHECK(last_state(Record()) == nullptr);
}

TEST_CASE("thousands: commas every three digits") {
  CHECK(thousands(7) == "7");
  CHECK(thousands(1000) == "1,000");
  CHECK(thousands(1234567) == "1,234,567");
}

}  // namespace
}  // namespace autoglm::report
