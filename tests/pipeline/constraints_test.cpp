#include "autoglm/pipeline/constraints.h"

#include "tests/support/catch.h"

using namespace autoglm;

namespace {

Record record_with(double kl, std::uint64_t before, std::uint64_t after) {
  Record record;
  record.before.disk_bytes = before;
  record.before.scorecard = Scorecard{};
  record.before.scorecard->perplexity = 10;
  record.after = ModelRecord{};
  record.after->disk_bytes = after;
  record.after->scorecard = Scorecard{};
  record.after->scorecard->perplexity = 11;
  record.after->scorecard->divergence = Divergence{};
  record.after->scorecard->divergence->kl = kl;
  return record;
}

Constraint limit(const std::string& measure, std::optional<double> min,
                 std::optional<double> max, std::optional<double> ratio = {}) {
  Constraint c;
  c.measure = measure;
  c.min = min;
  c.max = max;
  c.max_ratio = ratio;
  return c;
}

}  // namespace

TEST_CASE("constraints: a value on the limit is inside it") {
  const Record record = record_with(0.1, 100, 40);
  const auto checks = check_constraints(
      {limit("kl", {}, 0.1), limit("size", {}, {}, 0.4)}, record, {});
  REQUIRE(checks.size() == 2);
  CHECK(checks[0].met);
  CHECK(checks[1].met);
  CHECK(checks[1].bound == Approx(40));
}

TEST_CASE("constraints: one limit above and one ratio give two checks") {
  const auto checks = check_constraints({limit("perplexity", {}, 10.5, 1.2)},
                                        record_with(0, 1, 1), {});
  REQUIRE(checks.size() == 2);
  CHECK_FALSE(checks[0].met);
  CHECK(checks[0].limit == "<= 10.5");
  CHECK(checks[1].met);
  CHECK(checks[1].limit == "<= 12 (1.2 x original)");
}

TEST_CASE("constraints: each latency constraint takes its own measurement") {
  Constraint decode = limit("latency", {}, 5.0);
  Constraint prefill = limit("latency", {}, {}, 0.5);
  prefill.phase = "prefill";
  prefill.batch = 4;
  const auto checks = check_constraints({decode, prefill}, record_with(0, 1, 1),
                                        {{8, 4}, {100, 60}});
  REQUIRE(checks.size() == 2);
  CHECK(checks[0].met);
  CHECK(checks[0].measure == "latency decode (batch 1)");
  CHECK_FALSE(checks[1].met);
  CHECK(checks[1].bound == 50);
}
