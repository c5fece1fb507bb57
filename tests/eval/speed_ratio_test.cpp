#include "autoglm/eval/speed_ratio.h"

#include <cmath>
#include <limits>

#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

TEST_CASE("speed_ratio: two rounds by hand") {
  // log ratios log 2 and log 8: mean log 4, standard error log 2, and Student's
  // quantile with one degree of freedom is 12.7062.
  const SpeedRatio r = speed_ratio({1, 1}, {2, 8});
  CHECK(r.ratio == Approx(4));
  CHECK(r.low == Approx(4 * std::pow(2, -12.7062)));
  CHECK(r.high == Approx(4 * std::pow(2, 12.7062)));
}

TEST_CASE("speed_ratio: a drift of the machine cancels") {
  const SpeedRatio r = speed_ratio({1, 2, 3, 10}, {1.5, 3, 4.5, 15});
  CHECK(r.ratio == Approx(1.5));
  CHECK(r.low == Approx(1.5));
  CHECK(r.high == Approx(1.5));
}

TEST_CASE("speed_ratio: many rounds use the expansion of the quantile") {
  // Twelve rounds, half of them 1.1, half of them 1/1.1: t(11) = 2.2010.
  std::vector<double> first(12, 1), second;
  for (int i = 0; i < 12; ++i) second.push_back(i % 2 == 0 ? 1.1 : 1 / 1.1);
  const double error = std::log(1.1) / std::sqrt(11.0);
  const SpeedRatio r = speed_ratio(first, second);
  CHECK(r.ratio == Approx(1));
  CHECK(std::log(r.high) == Approx(2.2010 * error).epsilon(1e-3));
}

TEST_CASE("speed_ratio: one round has no interval, none is a bug") {
  const SpeedRatio r = speed_ratio({2}, {3});
  CHECK(r.ratio == Approx(1.5));
  CHECK(r.low == 0);
  CHECK(r.high == std::numeric_limits<double>::infinity());
  error_of(ErrorKind::kInternal, [] { speed_ratio({}, {}); });
  error_of(ErrorKind::kInternal, [] { speed_ratio({1}, {1, 2}); });
  error_of(ErrorKind::kInternal, [] { speed_ratio({1}, {0}); });
}
