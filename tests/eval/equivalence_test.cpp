#include "autoglm/eval/equivalence.h"

#include <limits>

#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;

namespace {

Scorecard reference_card() {
  Scorecard s;
  s.perplexity = 20;
  s.accuracy = 0.4;
  return s;
}

Scorecard compressed_card() {
  Scorecard s;
  s.perplexity = 22;
  s.accuracy = 0.38;
  s.divergence = Divergence{0.04, 0.6, 0.92, 0.995, 0.05, 0.95};
  return s;
}

EquivalenceLimits no_limits() {
  EquivalenceLimits limits;
  limits.max_kl = {};
  limits.min_top1_agreement = {};
  limits.min_accuracy_retention = {};
  return limits;
}

}  // namespace

TEST_CASE("equivalence: the default limits are three") {
  const auto checks =
      check_equivalence(compressed_card(), reference_card(), {});
  REQUIRE(checks.size() == 3);
  CHECK(checks[0].measure == "kl");
  CHECK(checks[0].value == 0.04);
  CHECK(checks[0].limit == 0.05);
  CHECK(checks[0].at_most);
  CHECK(checks[0].passed);
  CHECK(checks[1].measure == "top1_agreement");
  CHECK_FALSE(checks[1].at_most);
  CHECK(checks[1].passed);
  CHECK(checks[2].measure == "accuracy_retention");
  CHECK_FALSE(checks[2].passed);  // 0.95 < 0.98
}

TEST_CASE("equivalence: no limits, no checks") {
  CHECK(check_equivalence(compressed_card(), reference_card(), no_limits())
            .empty());
}

TEST_CASE("equivalence: every limit has its own measure") {
  EquivalenceLimits limits;
  limits.max_kl_p99 = 0.5;
  limits.min_cosine = 0.99;
  limits.max_l2 = 0.06;
  limits.max_perplexity_ratio = 1.2;
  const auto checks =
      check_equivalence(compressed_card(), reference_card(), limits);
  REQUIRE(checks.size() == 7);
  const auto named = [&](const std::string& name) {
    for (const EquivalenceCheck& check : checks)
      if (check.measure == name) return check;
    FAIL("no check of " << name);
    return EquivalenceCheck{};
  };
  CHECK(named("kl_p99").value == 0.6);
  CHECK_FALSE(named("kl_p99").passed);
  CHECK(named("cosine").passed);
  CHECK_FALSE(named("cosine").at_most);
  CHECK(named("l2").passed);
  CHECK(named("perplexity_ratio").value == Approx(1.1));
  CHECK(named("perplexity_ratio").passed);
}

TEST_CASE("equivalence: a value at its limit passes") {
  EquivalenceLimits limits;
  limits.max_kl = 0.04;
  limits.min_top1_agreement = 0.92;
  limits.min_accuracy_retention = 0.95;
  for (const auto& check :
       check_equivalence(compressed_card(), reference_card(), limits))
    CHECK(check.passed);
}

TEST_CASE("equivalence: just beyond a limit fails") {
  EquivalenceLimits limits;
  limits.max_kl = 0.0399;
  limits.min_top1_agreement = 0.9201;
  limits.min_accuracy_retention = 0.9501;
  for (const auto& check :
       check_equivalence(compressed_card(), reference_card(), limits))
    CHECK_FALSE(check.passed);
}

TEST_CASE("equivalence: a measure that is NaN never passes") {
  Scorecard broken = compressed_card();
  broken.divergence->kl = std::numeric_limits<double>::quiet_NaN();
  broken.divergence->top1_agreement = std::numeric_limits<double>::quiet_NaN();
  const auto checks = check_equivalence(broken, reference_card(), {});
  CHECK_FALSE(checks[0].passed);
  CHECK_FALSE(checks[1].passed);
}

TEST_CASE("equivalence: the JSON says what was asked and what was found") {
  const Json json =
      to_json(check_equivalence(compressed_card(), reference_card(), {}));
  REQUIRE(json.size() == 3);
  CHECK(json[0] == Json({{"measure", "kl"},
                         {"value", 0.04},
                         {"limit", 0.05},
                         {"at_most", true},
                         {"passed", true}}));
  CHECK(json[2]["passed"] == false);
  CHECK(to_json(std::vector<EquivalenceCheck>{}) == Json::array());
}

TEST_CASE("equivalence: without a divergence it is our own fault") {
  error_of(ErrorKind::kInternal,
           [] { check_equivalence(reference_card(), reference_card(), {}); });
}
