#include "autoglm/kernels/packed_linear.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "tests/kernels/guarded_buffer.h"
#include "tests/kernels/packed_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels {
namespace {

using test::Case;
using test::for_each_kernel;
using test::make_case;

std::vector<float> multiply(const PackedMatrix& w, const std::vector<float>& x,
                            std::int64_t rows) {
  std::vector<float> y(static_cast<std::size_t>(rows * w.out),
                       std::numeric_limits<float>::quiet_NaN());
  packed_linear(w, x.data(), rows, y.data(), 0, w.out);
  return y;
}

// The product in double, and next to it the bound that fp32 may miss it by:
// a millionth of the sum of the absolute terms, about 16 units in the last
// place of that sum.
void check_against_double(const Case& c) {
  const PackedMatrix w = c.matrix();
  const std::vector<float> y = multiply(w, c.x, c.shape.rows);
  double worst = 0;
  for (std::int64_t m = 0; m < c.shape.rows; ++m)
    for (std::int64_t o = 0; o < w.out; ++o) {
      double exact = 0, size = 0;
      for (std::int64_t k = 0; k < w.in; ++k) {
        const double term = c.value(o, k) * c.x[m * w.in + k];
        exact += term;
        size += std::abs(term);
      }
      const double error = std::abs(y[m * w.out + o] - exact);
      // Written so that a NaN counts as wrong.
      if (!(error <= 1e-6 * size))
        worst = HUGE_VAL;
      else if (size > 0)
        worst = std::max(worst, error / size);
    }
  INFO(c.shape.text() << ", largest error / sum |terms| " << worst);
  REQUIRE(worst <= 1e-6);
}

TEST_CASE("packed_linear: a 2 x 4 matrix computed by hand") {
  // Codes less 8: row 0 is -8 0 1 7 at scale 0.5, row 1 is 2 2 -1 0 at 2.
  const std::vector<std::uint8_t> codes = {0, 8, 9, 15, 10, 10, 7, 8};
  std::vector<std::uint32_t> words(2);
  pack_rows(codes.data(), 2, 4, 4, words.data());
  CHECK(words == std::vector<std::uint32_t>{0xf980, 0x87aa});
  const std::vector<float> scales = {0.5f, 2.0f};
  const PackedMatrix w = {
      words.data(), scales.data(), ScaleType::kFloat32, nullptr, 2, 4, 4, 4};
  for_each_kernel([&] {
    CHECK(multiply(w, {1, 2, 3, 4}, 1) == std::vector<float>{11.5f, 6.0f});
  });
}

TEST_CASE("packed_linear: zero codes are taken off before the scale") {
  // Groups of 2: (1-1)*2, (3-1)*2 | (0-3)*4, (2-3)*4, with x = 1 10 100 1000.
  const std::vector<std::uint8_t> codes = {1, 3, 0, 2};
  std::vector<std::uint32_t> words(1);
  pack_rows(codes.data(), 1, 4, 2, words.data());
  const std::vector<float> scales = {2, 4};
  const std::vector<std::uint8_t> zeros = {1, 3};
  const PackedMatrix w = {words.data(),
                          scales.data(),
                          ScaleType::kFloat32,
                          zeros.data(),
                          1,
                          4,
                          2,
                          2};
  for_each_kernel([&] {
    CHECK(multiply(w, {1, 10, 100, 1000}, 1) ==
          std::vector<float>{40 - 1200 - 4000});
  });
}

TEST_CASE(
    "packed_linear: agrees with double at every width, group, row count") {
  for_each_kernel([] {
    std::uint32_t seed = 1;
    for (int bits = 2; bits <= 8; ++bits)
      for (const bool symmetric : {true, false})
        for (const std::int64_t group : {1, 7, 16, 24, 32, 64, 96, 128, 1000})
          for (const std::int64_t in : {1, 5, 31, 33, 64, 130, 416})
            for (const std::int64_t rows : {1, 3, 4, 5, 8, 17})
              check_against_double(
                  make_case({5, in, std::min(group, in), rows, bits, symmetric,
                             ScaleType::kBFloat16},
                            seed++));
  });
}

TEST_CASE("packed_linear: agrees with double at the sizes of a GLM") {
  for_each_kernel([] {
    for (const int bits : {3, 4, 8})
      for (const std::int64_t in : {4096, 13696})
        for (const std::int64_t group :
             {std::int64_t{32}, std::int64_t{128}, in})
          check_against_double(make_case(
              {8, in, group, 2, bits, group == 32, ScaleType::kFloat16}, 7));
  });
}

TEST_CASE("packed_linear: every type of scale is read") {
  for_each_kernel([] {
    for (const ScaleType type :
         {ScaleType::kFloat32, ScaleType::kBFloat16, ScaleType::kFloat16})
      for (const std::int64_t group : {20, 32})
        check_against_double(make_case({3, 200, group, 2, 4, true, type}, 3));
  });
}

TEST_CASE("packed_linear: one element, one row") {
  for_each_kernel([] {
    for (int bits = 2; bits <= 8; ++bits)
      check_against_double(
          make_case({1, 1, 1, 1, bits, false, ScaleType::kFloat32}, 5));
  });
}

TEST_CASE("packed_linear: an all-zero scale gives zero") {
  Case c = make_case({4, 96, 32, 3, 4, true, ScaleType::kFloat32}, 9);
  std::fill(c.scale_floats.begin(), c.scale_floats.end(), 0.0f);
  for_each_kernel([&] {
    CHECK(multiply(c.matrix(), c.x, 3) == std::vector<float>(12, 0.0f));
  });
}

TEST_CASE("packed_linear: a range writes its own columns only") {
  const Case c = make_case({9, 100, 32, 2, 4, false, ScaleType::kFloat32}, 2);
  const PackedMatrix w = c.matrix();
  for_each_kernel([&] {
    std::vector<float> y(18, -1.0f);
    packed_linear(w, c.x.data(), 2, y.data(), 3, 5);
    for (std::size_t i = 0; i < y.size(); ++i) {
      INFO("column " << i % 9);
      CHECK((y[i] == -1.0f) == (i % 9 < 3 || i % 9 >= 5));
    }
    packed_linear(w, c.x.data(), 2, y.data(), 9, 9);
    packed_linear(w, c.x.data(), 0, y.data(), 0, 9);
    CHECK(y[0] == -1.0f);
  });
}

TEST_CASE("packed_linear: a row's result does not depend on the split") {
  for_each_kernel([] {
    for (int bits = 2; bits <= 8; ++bits)
      for (const std::int64_t group : {24, 32, 300})
        for (const std::int64_t rows : {1, 5}) {
          const Case c = make_case(
              {13, 300, group, rows, bits, bits % 2 == 0, ScaleType::kBFloat16},
              4);
          const PackedMatrix w = c.matrix();
          const std::vector<float> whole = multiply(w, c.x, rows);
          std::vector<float> parts(whole.size());
          const std::int64_t cuts[] = {0, 1, 3, 4, 9, 10, 13};
          for (int i = 0; i + 1 < 7; ++i)
            packed_linear(w, c.x.data(), rows, parts.data(), cuts[i],
                          cuts[i + 1]);
          INFO(c.shape.text());
          CHECK(std::memcmp(whole.data(), parts.data(),
                            whole.size() * sizeof(float)) == 0);
        }
  });
}

TEST_CASE("packed_linear: reads nothing past the end of its arguments") {
  // Every argument ends where an inaccessible page begins.
  for_each_kernel([] {
    for (int bits = 2; bits <= 8; ++bits)
      for (const std::int64_t in : {1, 9, 33, 127, 161})
        for (const std::int64_t group :
             {std::int64_t{8}, std::int64_t{32}, in}) {
          const Case c = make_case({3, in, std::min(group, in), 5, bits, false,
                                    ScaleType::kBFloat16},
                                   6);
          PackedMatrix w = c.matrix();
          const test::GuardedBuffer codes(c.words), x(c.x), zeros(c.zero_codes),
              scales(c.scale_halves);
          test::GuardedBuffer y(std::vector<float>(15));
          test::GuardedBuffer dense(
              std::vector<float>(static_cast<std::size_t>(3 * in)));
          w.codes = codes.as<std::uint32_t>();
          w.scales = scales.as<void>();
          w.zeros = zeros.as<std::uint8_t>();
          packed_linear(w, x.as<float>(), 5, y.as<float>(), 0, 3);
          unpack_rows(w, 0, 3, dense.as<float>());
          std::vector<std::uint8_t> plain(static_cast<std::size_t>(3 * in));
          const test::GuardedBuffer bytes(plain);
          unpack_codes(w.codes, 3, in, bits, bytes.as<std::uint8_t>());
          CHECK(std::memcmp(bytes.as<void>(), c.codes.data(), c.codes.size()) ==
                0);
        }
  });
}

TEST_CASE("unpack_rows: gives (code - zero) * scale of the named rows") {
  for_each_kernel([] {
    for (int bits = 2; bits <= 8; ++bits)
      for (const bool symmetric : {true, false})
        for (const std::int64_t group : {1, 7, 32, 96, 1000})
          for (const std::int64_t in : {1, 33, 130, 416}) {
            const Case c = make_case({6, in, std::min(group, in), 1, bits,
                                      symmetric, ScaleType::kFloat16},
                                     8);
            std::vector<float> out(static_cast<std::size_t>(3 * in), -1.0f);
            unpack_rows(c.matrix(), 2, 5, out.data());
            std::int64_t wrong = 0;
            for (std::int64_t o = 2; o < 5; ++o)
              for (std::int64_t k = 0; k < in; ++k)
                if (out[(o - 2) * in + k] != static_cast<float>(c.value(o, k)))
                  ++wrong;
            INFO(c.shape.text());
            CHECK(wrong == 0);
          }
  });
}

TEST_CASE(
    "unpack_rows: half scales cover subnormal, negative and huge values") {
  const std::vector<std::uint16_t> halves = {0x0001, 0x03ff, 0x0400,
                                             0x7bff, 0xc000, 0x8001};
  const std::vector<float> values = {0x1p-24f, 1023 * 0x1p-24f, 0x1p-14f,
                                     65504.0f, -2.0f,           -0x1p-24f};
  const std::vector<std::uint32_t> words(6, 9);  // code 9: one above the zero
  const PackedMatrix w = {
      words.data(), halves.data(), ScaleType::kFloat16, nullptr, 6, 1, 1, 4};
  for_each_kernel([&] {
    std::vector<float> out(6);
    unpack_rows(w, 0, 6, out.data());
    CHECK(out == values);
  });
}

TEST_CASE("packed_linear_kernel: can be forced, and goes back to the best") {
  const std::string best = packed_linear_kernel();
  CHECK_FALSE(force_packed_linear_kernel("sse9"));
  CHECK(packed_linear_kernel() == best);
  CHECK(force_packed_linear_kernel("scalar"));
  CHECK(packed_linear_kernel() == std::string("scalar"));
  CHECK(force_packed_linear_kernel("auto"));
  CHECK(packed_linear_kernel() == best);
}

}  // namespace
}  // namespace autoglm::kernels
