#include "autoglm/kernels/integer_linear.h"

#include <cmath>
#include <limits>
#include <random>

#include "tests/kernels/emulated_unit.h"
#include "tests/kernels/guarded_buffer.h"
#include "tests/kernels/interleaved_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels {
namespace {

using test::Case;
using test::for_each_integer_kernel;
using test::integer_product;
using test::Interleaved;
using test::make_case;
using test::same_bits;

// Activations on a bell curve, a few of them `outlier` times as large; zero
// codes about the middle.
void make_natural(Case& c, std::uint32_t seed, float outlier = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < c.x.size(); ++i)
    c.x[i] = normal(random) * (i % 509 == 5 ? outlier : 1.0f);
  for (std::uint8_t& zero : c.zero_codes)
    zero = static_cast<std::uint8_t>((1 << (c.shape.bits - 1)) + zero % 3 - 1);
}

// |y - exact product| / |exact product| over all rows, in double.
double relative_error(const Case& c, const std::vector<float>& y) {
  double error = 0, size = 0;
  for (std::int64_t m = 0; m < c.shape.rows; ++m)
    for (std::int64_t o = 0; o < c.shape.out; ++o) {
      double exact = 0;
      for (std::int64_t k = 0; k < c.shape.in; ++k)
        exact += c.value(o, k) * c.x[m * c.shape.in + k];
      const double off = y[m * c.shape.out + o] - exact;
      error += off * off;
      size += exact * exact;
    }
  return std::sqrt(error / size);
}

TEST_CASE("integer_linear: a 2 x 4 matrix computed by hand") {
  // Codes less 8: row 0 is -8 0 1 7 at scale 0.5, row 1 is 2 2 -1 0 at 2.
  const std::vector<std::uint8_t> codes = {0, 8, 9, 15, 10, 10, 7, 8};
  std::vector<std::uint32_t> words(2);
  pack_rows(codes.data(), 2, 4, 4, words.data());
  const std::vector<float> scales = {0.5f, 2.0f};
  const Interleaved w(
      {words.data(), scales.data(), ScaleType::kFloat32, nullptr, 2, 4, 4, 4});
  for_each_integer_kernel([&] {
    // Steps of 1 and of 2: whole numbers, so nothing is lost.
    CHECK(integer_product(w.matrix, {1, 2, 127, 4}, 1) ==
          std::vector<float>{73.5f, -242});
    CHECK(integer_product(w.matrix, {1, 2, 127, 4, 254, 2, 4, -2}, 2) ==
          std::vector<float>{73.5f, -242, -1021, 1016});
  });
}

TEST_CASE("integer_linear: exact where x is whole, at every width and group") {
  // With 127 as the largest of every span the steps are 1, so the product is
  // that of packed_linear up to the rounding of fp32.
  std::uint32_t seed = 1;
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::int64_t group : {4, 20, 32, 64, 128, 192, 1000})
      for (const std::int64_t in : {4, 31, 100, 416})
        for (const std::int64_t rows : {1, 2, 5, 12, 14, 31}) {
          if (!can_interleave(in, group)) continue;
          Case c = make_case(
              {21, in, group, rows, bits, seed % 3 != 0, ScaleType::kBFloat16},
              seed);
          ++seed;
          for (float& value : c.x) value = std::round(value * 126);
          const std::int64_t span = std::min(group, kSpanElements);
          for (std::int64_t m = 0; m < rows; ++m)
            for (std::int64_t g = 0; g < in; g += group)
              for (std::int64_t k = g; k < std::min(in, g + group); k += span)
                c.x[m * in + k] = -127;
          const Interleaved w(c.matrix());
          const double error =
              relative_error(c, integer_product(w.matrix, c.x, rows));
          INFO(c.shape.text() << ", relative error " << error);
          REQUIRE(error <= 1e-6);
        }
}

TEST_CASE("integer_linear: all instruction sets agree to the bit") {
  std::mt19937 random(11);
  const auto upto = [&](std::uint32_t n) {
    return static_cast<std::int64_t>(1 + random() % n);
  };
  for (int round = 0; round < 120; ++round) {
    const std::int64_t in = upto(600);
    const std::int64_t group = random() % 4 == 0 ? in : 4 * upto(70);
    Case c = make_case({upto(70), in, group, upto(30), 2 + round % 7,
                        random() % 2 == 0, static_cast<ScaleType>(round % 3)},
                       static_cast<std::uint32_t>(round));
    make_natural(c, static_cast<std::uint32_t>(round));
    const Interleaved w(c.matrix());
    std::vector<float> first;
    for_each_integer_kernel([&] {
      const std::vector<float> y = integer_product(w.matrix, c.x, c.shape.rows);
      if (first.empty()) first = y;
      INFO(c.shape.text());
      CHECK(same_bits(first, y));
    });
  }
}

TEST_CASE("integer_linear: within a per cent of the product in fp32") {
  std::uint32_t seed = 1;
  double outliers = 0;
  int count = 0;
  for (int bits = 2; bits <= 8; ++bits)
    for (const bool symmetric : {true, false})
      for (const std::int64_t group : {16, 32, 64, 128, 1021})
        for (const std::int64_t rows : {1, 7}) {
          const std::int64_t in = group == 1021 ? group : 1024;
          Case c = make_case(
              {63, in, group, rows, bits, symmetric, ScaleType::kFloat16},
              seed);
          make_natural(c, seed++);
          const Interleaved w(c.matrix());
          const double error =
              relative_error(c, integer_product(w.matrix, c.x, rows));
          INFO(c.shape.text() << ", relative error " << error);
          CHECK(error < 0.01);
          make_natural(c, seed++, 10);
          const Interleaved again(c.matrix());
          outliers +=
              relative_error(c, integer_product(again.matrix, c.x, rows));
          ++count;
        }
  // What is far outside costs the others of its span their precision.
  INFO("with outliers " << outliers / count);
  CHECK(outliers / count < 0.015);
}

TEST_CASE("integer_linear: the largest codes and values do not saturate") {
  // Every product is (2^bits - 1) * +-127, of one sign in a whole span.
  for (int bits = 2; bits <= 8; ++bits)
    for (const float sign : {1.0f, -1.0f}) {
      const std::int64_t in = 256;
      const std::vector<std::uint8_t> codes(
          in, static_cast<std::uint8_t>((1 << bits) - 1));
      std::vector<std::uint32_t> words(in);
      pack_rows(codes.data(), 1, in, bits, words.data());
      const float scale = 1;
      const std::uint8_t zero = 0;
      const PackedMatrix packed = {
          words.data(), &scale, ScaleType::kFloat32, &zero, 1, in, in, bits};
      const Interleaved w(packed);
      const float expected =
          sign * 127.0f * static_cast<float>(in * ((1 << bits) - 1));
      for_each_integer_kernel([&] {
        for (const std::int64_t rows : {1, 3, 17}) {
          const std::vector<float> x(static_cast<std::size_t>(rows * in),
                                     sign * 127);
          CHECK(integer_product(w.matrix, x, rows) ==
                std::vector<float>(static_cast<std::size_t>(rows), expected));
        }
      });
    }
}

TEST_CASE("integer_linear: zeros, constants, huge and tiny activations") {
  const Case c = make_case({20, 96, 32, 1, 4, false, ScaleType::kFloat32}, 9);
  const Interleaved w(c.matrix());
  Case ones = c;
  std::fill(ones.x.begin(), ones.x.end(), 1.0f);
  for_each_integer_kernel([&] {
    CHECK(integer_product(w.matrix, std::vector<float>(96, 0.0f), 1) ==
          std::vector<float>(20, 0.0f));
    // Constants are 127 steps: exact but for fp32. Powers of two change
    // nothing else; below 127 times the smallest normal number all is zero.
    const std::vector<float> unit = integer_product(w.matrix, ones.x, 1);
    CHECK(relative_error(ones, unit) <= 1e-6);
    for (const int power : {-118, -60, 60, 110}) {
      const float factor = std::ldexp(1.0f, power);
      std::vector<float> y =
          integer_product(w.matrix, std::vector<float>(96, factor), 1);
      for (float& value : y) value /= factor;
      INFO("x = 2^" << power);
      CHECK(y == unit);
    }
    for (const float tiny : {1e-37f, 1e-45f})
      CHECK(integer_product(w.matrix, std::vector<float>(96, tiny), 1) ==
            std::vector<float>(20, 0.0f));
  });
}

TEST_CASE("integer_linear: a NaN or an infinity makes its own row NaN") {
  const Case c = make_case({20, 96, 32, 3, 4, true, ScaleType::kFloat32}, 9);
  const Interleaved w(c.matrix());
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()})
    for (const std::int64_t at : {0, 40, 95}) {
      std::vector<float> x = c.x;
      x[static_cast<std::size_t>(96 + at)] = bad;
      for_each_integer_kernel([&] {
        const std::vector<float> y = integer_product(w.matrix, x, 3);
        for (std::size_t i = 0; i < y.size(); ++i)
          CHECK(std::isnan(y[i]) == (i / 20 == 1));
      });
    }
}

TEST_CASE("integer_linear: a row does not depend on the others or the split") {
  for (const int bits : {3, 4, 8})
    for (const std::int64_t rows : {2, 12, 13, 300}) {
      Case c = make_case(
          {53, 200, 200, rows, bits, bits == 4, ScaleType::kBFloat16}, 4);
      const Interleaved w(c.matrix());
      for_each_integer_kernel([&] {
        const std::vector<float> whole = integer_product(w.matrix, c.x, rows);
        IntegerRows rounded(rows, {200, 200});
        rounded.round(c.x.data(), rows / 2, rows);
        rounded.round(c.x.data(), 0, rows / 2);
        std::vector<float> parts(whole.size());
        const std::int64_t cuts[] = {0, 1, 1, 4};
        for (int i = 0; i < 3; ++i)
          integer_linear(w.matrix, rounded, parts.data(), cuts[i], cuts[i + 1]);
        INFO(c.shape.text());
        CHECK(same_bits(whole, parts));
        const std::int64_t row = rows / 3;
        const std::vector<float> alone = integer_product(
            w.matrix, {c.x.begin() + row * 200, c.x.begin() + (row + 1) * 200},
            1);
        CHECK(same_bits(
            alone, {whole.begin() + row * 53, whole.begin() + (row + 1) * 53}));
      });
    }
}

TEST_CASE("integer_linear: many long rows, several tiles at once") {
  // More elements than kNearElements, more rows than one strip, a last block
  // of tiles that is not full.
  Case c = make_case({300, 1030, 1030, 520, 4, true, ScaleType::kFloat16}, 8);
  const Interleaved w(c.matrix());
  const auto check = [&] {
    const std::vector<float> y = integer_product(w.matrix, c.x, 520);
    for (const std::int64_t row : {0, 259, 260, 511, 512, 519}) {
      const std::vector<float> alone = integer_product(
          w.matrix, {c.x.begin() + row * 1030, c.x.begin() + (row + 1) * 1030},
          1);
      INFO("row " << row);
      CHECK(same_bits(alone,
                      {y.begin() + row * 300, y.begin() + (row + 1) * 300}));
    }
  };
  check();
  force_integer_implementation(test::emulated_unit());
  check();
  force_integer_linear_kernel("auto");
}

TEST_CASE("agrees_with_scalar: finds a unit that takes x for unsigned") {
  CHECK(agrees_with_scalar(scalar_integer_implementation()));
  CHECK(agrees_with_scalar(test::emulated_unit()));
  CHECK_FALSE(agrees_with_scalar(test::wrong_unit()));
}

TEST_CASE("integer_linear: a range of tiles writes its own columns only") {
  const Case c = make_case({40, 64, 32, 2, 4, true, ScaleType::kFloat32}, 2);
  const Interleaved w(c.matrix());
  for_each_integer_kernel([&] {
    IntegerRows rounded(2, {64, 32});
    rounded.round(c.x.data(), 0, 2);
    std::vector<float> y(80, -1.0f);
    integer_linear(w.matrix, rounded, y.data(), 1, 2);
    for (std::size_t i = 0; i < y.size(); ++i)
      CHECK((y[i] == -1.0f) == (i % 40 < 16 || i % 40 >= 32));
    integer_linear(w.matrix, rounded, y.data(), 2, 2);
    integer_linear(w.matrix, IntegerRows(0, {64, 32}), y.data(), 0, 3);
    CHECK(y[0] == -1.0f);
  });
}

TEST_CASE("integer_linear: reads and writes nothing past its arguments") {
  // Every argument ends where an inaccessible page begins.
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::int64_t in : {1, 9, 33, 127, 164})
      for (const std::int64_t group : {std::int64_t{8}, std::int64_t{32}, in}) {
        const Case c = make_case(
            {19, in, group, 18, bits, false, ScaleType::kBFloat16}, 6);
        const test::GuardedBuffer words(c.words), halves(c.scale_halves),
            zero_codes(c.zero_codes);
        PackedMatrix packed = c.matrix();
        packed.codes = words.as<std::uint32_t>();
        packed.scales = halves.as<void>();
        packed.zeros = zero_codes.as<std::uint8_t>();
        const Interleaved laid(packed);
        const test::GuardedBuffer codes(laid.codes), scales(laid.scales),
            zeros(laid.zeros);
        InterleavedMatrix w = laid.matrix;
        w.codes = codes.as<std::uint8_t>();
        w.scales = scales.as<void>();
        w.zeros = zeros.as<std::uint8_t>();
        for_each_integer_kernel([&] {
          for (const std::int64_t rows : {1, 3, 18}) {
            std::vector<float> part(c.x.begin(), c.x.begin() + rows * in);
            const test::GuardedBuffer x(part);
            const test::GuardedBuffer y(
                std::vector<float>(static_cast<std::size_t>(rows * 19)));
            IntegerRows rounded(rows, {in, group});
            rounded.round(x.as<float>(), 0, rows);
            integer_linear(w, rounded, y.as<float>(), 0, 2);
            const std::vector<float> got(y.as<float>(),
                                         y.as<float>() + rows * 19);
            CHECK(same_bits(got, integer_product(laid.matrix, part, rows)));
          }
          std::vector<std::uint8_t> plain(static_cast<std::size_t>(in));
          const test::GuardedBuffer bytes(plain);
          interleaved_codes(w, 18, bytes.as<std::uint8_t>());
        });
      }
}

TEST_CASE("integer_linear: an unknown kernel is refused") {
  const std::string before = integer_linear_kernel();
  CHECK_FALSE(force_integer_linear_kernel("sse"));
  CHECK(integer_linear_kernel() == before);
  CHECK(force_integer_linear_kernel("scalar"));
  CHECK(std::string(integer_linear_kernel()) == "scalar");
  CHECK(force_integer_linear_kernel("auto"));
  CHECK(integer_linear_kernel() == before);
}

}  // namespace
}  // namespace autoglm::kernels
