// When how much is masked, and which part gets narrower next.
#include "passes/distillation/sparsity_schedule.h"

#include "passes/distillation/width_choice.h"
#include "passes/distillation/width_timing.h"
#include "tests/support/catch.h"

using namespace autoglm;

namespace {

// 100 parameters a unit, 4 units, one goes at a time.
WidthCosts part_of(const std::vector<double>& loss,
                   const std::vector<double>& ms = {}) {
  return {0, loss, {400, 300, 200, 100}, ms};
}

}  // namespace

TEST_CASE("sparsity_schedule: the cubic by hand") {
  CHECK(cubic_share(0) == 0);
  CHECK(cubic_share(0.5) == Approx(0.875));  // 1 - 1/8
  CHECK(cubic_share(0.75) == Approx(1 - 1.0 / 64));
  CHECK(cubic_share(1) == 1);
  CHECK(cubic_share(2) == 1);
  CHECK(regrow_share(0.2, 0) == Approx(0.2));
  CHECK(regrow_share(0.2, 0.5) == Approx(0.1));
  CHECK(regrow_share(0.2, 1) == Approx(0).margin(1e-15));
}

TEST_CASE("sparsity_schedule: progress runs from the start to the end") {
  DistillationOptions options;
  options.sparsity_start = 0.1;
  options.sparsity_end = 0.6;
  CHECK(masking_progress(0.05, options) == 0);
  CHECK(masking_progress(0.1, options) == 0);
  CHECK(masking_progress(0.35, options) == Approx(0.5));
  CHECK(masking_progress(0.6, options) == 1);
  CHECK(masking_progress(0.9, options) == 1);
}

TEST_CASE("strength controller: by hand, and steps are bounded") {
  StrengthController controller(0.5);
  // e = ln 1.1: 4 (e - 0) + 8 e.
  const double e = std::log(1.1);
  CHECK(controller.step(1.1, 1) == Approx(0.5 * std::exp(12 * e)));
  // The same error again: the proximal part rests.
  CHECK(controller.step(1.1, 1) == Approx(0.5 * std::exp(20 * e)));
  const double before = controller.strength();
  CHECK(controller.step(100, 1) == Approx(8 * before));
  CHECK(controller.step(0.01, 1) == Approx(before));
}

TEST_CASE("strength controller: it settles where a plant meets the target") {
  // The time falls with the logarithm of the strength, as spread prices do.
  StrengthController controller(1e-3);
  double time = 1;
  for (int i = 0; i < 40; ++i)
    time = 0.9 - 0.06 * std::log(controller.step(time, 0.8));
  CHECK(time == Approx(0.8).epsilon(1e-3));
}

TEST_CASE("cheapest_move: the loss per parameter decides without times") {
  const std::vector<WidthCosts> parts = {part_of({0, 5, 12, 20}),
                                         part_of({0, 2, 9, 30})};
  const auto first = cheapest_move(parts, 1);
  REQUIRE(first);
  CHECK(first->part == 1);
  CHECK(first->level == 1);
  CHECK(first->price == Approx(0.02));
  // From there the first part is cheaper: 5 / 100 against 7 / 100.
  std::vector<WidthCosts> next = parts;
  next[1].level = 1;
  CHECK(cheapest_move(next, 1)->part == 0);
}

TEST_CASE("cheapest_move: a part that gains more time goes first") {
  std::vector<WidthCosts> parts = {
      part_of({0, 5, 12, 20}, {4, 3.5, 3, 2.5}),
      part_of({0, 5, 12, 20}, {9, 7, 5, 3})};  // four times the gain
  CHECK(cheapest_move(parts, 0)->part == 0);   // equal: the first
  CHECK(cheapest_move(parts, 1)->part == 1);
  const double mean = mean_rate(parts);
  CHECK(mean == Approx((1.5 + 6) / 600));
  CHECK(time_factor(parts[0], mean, 1) == Approx(0.4));
  CHECK(time_factor(parts[1], mean, 1) == Approx(1.6));
  CHECK(time_factor(parts[1], mean, 2) == Approx(1.6 * 1.6));
  CHECK(time_factor(parts[1], mean, 0) == 1);
}

TEST_CASE("cheapest_move: a plateau of the times is passed as a whole") {
  // The next width gains nothing, the one behind it much.
  std::vector<WidthCosts> parts = {part_of({0, 1, 2, 4}, {4, 4, 1, 1})};
  CHECK(cheapest_move(parts, 1)->level == 2);
  // Nothing below gains any more: units there go last, but can.
  parts[0].level = 2;
  CHECK(time_factor(parts[0], mean_rate(parts), 1) == Approx(1e-3));
  REQUIRE(cheapest_move(parts, 1));
  parts[0].level = 3;
  CHECK_FALSE(cheapest_move(parts, 1));
  CHECK(time_factor(parts[0], mean_rate(parts), 1) == 0);
}

TEST_CASE("cheapest_move: no move takes more than it may") {
  const std::vector<WidthCosts> parts = {part_of({0, 5, 12, 20})};
  CHECK_FALSE(cheapest_move(parts, 1, 99));
  CHECK(cheapest_move(parts, 1, 100)->level == 1);
}

TEST_CASE("falling: neighbours in the wrong order are pooled") {
  CHECK(falling({5, 4, 3}) == std::vector<double>{5, 4, 3});
  CHECK(falling({5, 3, 4, 1}) == std::vector<double>{5, 3.5, 3.5, 1});
  CHECK(falling({1, 2, 3}) == std::vector<double>{2, 2, 2});
  CHECK(falling({}).empty());
}
