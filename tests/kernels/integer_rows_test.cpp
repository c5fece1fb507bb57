#include <cmath>
#include <vector>

#include "autoglm/kernels/integer_linear.h"
#include "tests/kernels/emulated_unit.h"
#include "tests/kernels/interleaved_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels {
namespace {

using test::for_each_integer_kernel;

std::vector<int> values_of(const IntegerRows& rows, std::int64_t row) {
  std::vector<int> out;
  const std::int64_t width = rows.panel_rows();
  for (std::int64_t k = 0; k < rows.spans().quads() * 4; ++k)
    out.push_back(
        rows.values()[((row / width * rows.spans().quads() + k / 4) * width +
                       row % width) *
                          4 +
                      k % 4]);
  return out;
}

TEST_CASE("IntegerRows: rounds each span by its largest, halves to even") {
  // Steps 1 and 0.5 and 0 (all zeros).
  const std::vector<float> x = {127,  -63.5, 0.5, 1.5, 2.5,  -0.5, 0, 1,
                                63.5, 0.25,  0.5, -1,  0.75, 0,    0, 0,
                                0,    0,     0,   0,   0,    0};
  for_each_integer_kernel([&] {
    IntegerRows rows(1, {22, 8});
    rows.round(x.data(), 0, 1);
    CHECK(values_of(rows, 0) == std::vector<int>{127, -64, 0, 2,  2, 0, 0, 1,
                                                 127, 0,   1, -2, 2, 0, 0, 0,
                                                 0,   0,   0, 0,  0, 0, 0, 0});
    CHECK(std::vector<float>(rows.steps(), rows.steps() + 3) ==
          std::vector<float>{1, 0.5, 0});
    CHECK(std::vector<int>(rows.minus_sums(), rows.minus_sums() + 3) ==
          std::vector<int>{-68, -128, 0});
  });
}

TEST_CASE("IntegerRows: a given step cuts off what lies beyond 127 of it") {
  const std::vector<float> x = {1, -1.25, 100, -100, 0.75, 63.5, 3e38f, -3e38f};
  const float step = 0.5f;
  for_each_integer_kernel([&] {
    IntegerRows rows(1, {8, 4});
    rows.round(x.data(), &step, 0, 1);
    CHECK(values_of(rows, 0) ==
          std::vector<int>{2, -2, 127, -127, 2, 127, 127, -127});
    CHECK(rows.steps()[0] == 0.5f);
    CHECK(rows.steps()[1] == 0.5f);
  });
}

TEST_CASE("IntegerRows: panels are of one height and the last is filled up") {
  for (const std::int64_t count : {1, 2, 11, 12, 13, 24, 25, 100}) {
    const IntegerRows rows(count, {8, 8});
    INFO(count << " rows in panels of " << rows.panel_rows());
    CHECK(rows.panel_rows() <= 12);
    CHECK(rows.panels() == (count + 11) / 12);
    CHECK(rows.panels() * rows.panel_rows() >= count);
    for (std::int64_t m = count; m < rows.panels() * rows.panel_rows(); ++m)
      CHECK(values_of(rows, m) == std::vector<int>(8, 0));
  }
}

TEST_CASE("IntegerRows: a matrix unit has panels of 16 rows, spans apart") {
  // Groups of 36 are spans of 36, 36 and 28 elements.
  std::vector<float> x;
  for (int i = 0; i < 17 * 100; ++i)
    x.push_back(static_cast<float>(i % 37 == 0 ? 127 : i % 37));
  IntegerRows rows(17, {100, 36}, test::emulated_unit());
  REQUIRE(rows.tiled());
  CHECK(rows.panel_rows() == 16);
  CHECK(rows.panels() == 2);
  rows.round(x.data(), 0, 17);
  for (int m = 0; m < 32; ++m)
    for (int span = 0; span < 3; ++span)
      for (int k = 0; k < 64; ++k) {
        const int element = span * 36 + k;
        const bool there = m < 17 && k < 36 && element < 100;
        const int at = ((m / 16 * 3 + span) * 16 + m % 16) * 64 + k;
        const float step = rows.steps()[(m / 16 * 3 + span) * 16 + m % 16];
        INFO("row " << m << ", span " << span << ", element " << k);
        if (there)
          CHECK(std::abs(static_cast<float>(rows.values()[at]) * step -
                         x[static_cast<std::size_t>(m * 100 + element)]) <=
                step * 0.501f);
        else
          CHECK(rows.values()[at] == 0);
      }
  // Few rows and narrow spans would be mostly padding.
  CHECK_FALSE(IntegerRows(15, {100, 36}, test::emulated_unit()).tiled());
  CHECK_FALSE(IntegerRows(17, {100, 28}, test::emulated_unit()).tiled());
  CHECK_FALSE(
      IntegerRows(17, {100, 36}, scalar_integer_implementation()).tiled());
}

}  // namespace
}  // namespace autoglm::kernels
