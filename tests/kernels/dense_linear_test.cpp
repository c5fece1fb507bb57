#include "autoglm/kernels/dense_linear.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/kernels/guarded_buffer.h"
#include "tests/kernels/interleaved_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels {
namespace {

using cuda::NumberType;
using test::same_bits;

constexpr NumberType kTypes[] = {NumberType::kFloat32, NumberType::kBFloat16,
                                 NumberType::kFloat16};

template <class Body>
void for_each_dense_kernel(Body&& body) {
  struct Restore {
    ~Restore() { force_dense_linear_kernel("auto"); }
  } restore;
  for (const char* name : {"scalar", "avx2", "avx512"}) {
    if (!force_dense_linear_kernel(name)) continue;
    INFO("kernel " << name);
    body();
  }
}

// `value` as it is stored, and what that stands for.
std::uint32_t stored(NumberType type, float value) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  if (type == NumberType::kFloat32) return bits;
  if (type == NumberType::kBFloat16) return bits >> 16;
  return __builtin_bit_cast(std::uint16_t, static_cast<_Float16>(value));
}

float meaning(NumberType type, float value) {
  const std::uint32_t bits = stored(type, value);
  if (type == NumberType::kFloat32) return value;
  if (type == NumberType::kBFloat16)
    return __builtin_bit_cast(float, bits << 16);
  return static_cast<float>(
      __builtin_bit_cast(_Float16, static_cast<std::uint16_t>(bits)));
}

struct Case {
  NumberType type;
  std::int64_t out, in, stride, rows;
  std::vector<float> w, x;            // [out, in], [rows, in]
  std::vector<std::uint8_t> storage;  // ends with the last element
};

Case random_case(NumberType type, std::int64_t out, std::int64_t in,
                 std::int64_t gap, std::int64_t rows, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Case c = {type, out, in, in + gap, rows, {}, {}, {}};
  const std::size_t width = type == NumberType::kFloat32 ? 4 : 2;
  c.storage.assign(static_cast<std::size_t>((out - 1) * c.stride + in) * width,
                   0xff);
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t k = 0; k < in; ++k) {
      const float value = normal(random);
      const std::uint32_t bits = stored(type, value);
      std::memcpy(
          c.storage.data() + static_cast<std::size_t>(o * c.stride + k) * width,
          &bits, width);
      c.w.push_back(meaning(type, value));
    }
  for (std::int64_t i = 0; i < rows * in; ++i) c.x.push_back(normal(random));
  return c;
}

std::vector<float> product(const Case& c, const void* weight, const float* x) {
  std::vector<float> y(static_cast<std::size_t>(c.rows * c.out), -7.0f);
  dense_linear({weight, c.type, c.out, c.in, c.stride}, x, c.rows, y.data(), 0,
               c.out);
  return y;
}

TEST_CASE("dense_linear: a 2 x 3 matrix computed by hand") {
  const float w[] = {1, -2, 3, 0.5f, 0.25f, -4};
  for (const NumberType type : kTypes) {
    std::vector<std::uint8_t> storage;
    const std::size_t width = type == NumberType::kFloat32 ? 4 : 2;
    for (const float value : w) {
      const std::uint32_t bits = stored(type, value);
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(&bits);
      storage.insert(storage.end(), bytes, bytes + width);
    }
    for_each_dense_kernel([&] {
      const std::vector<float> x = {1, 2, 3, 4, 0, -1};
      std::vector<float> y(4);
      dense_linear({storage.data(), type, 2, 3, 3}, x.data(), 2, y.data(), 0,
                   2);
      CHECK(y == std::vector<float>{6, -11, 1, 6});
    });
  }
}

TEST_CASE("dense_linear: equals the sum in double, for any shape") {
  std::uint32_t seed = 1;
  for (const NumberType type : kTypes)
    for (const std::int64_t out : {1, 3, 4, 9})
      for (const std::int64_t in : {1, 7, 16, 33, 256, 1021})
        for (const std::int64_t rows : {1, 2, 3, 5, 8})
          for (const std::int64_t gap : {0, 5}) {
            const Case c = random_case(type, out, in, gap, rows, seed++);
            for_each_dense_kernel([&] {
              const auto y = product(c, c.storage.data(), c.x.data());
              for (std::int64_t m = 0; m < rows; ++m)
                for (std::int64_t o = 0; o < out; ++o) {
                  double exact = 0, size = 0;
                  for (std::int64_t k = 0; k < in; ++k) {
                    const double term =
                        static_cast<double>(
                            c.w[static_cast<std::size_t>(o * in + k)]) *
                        c.x[static_cast<std::size_t>(m * in + k)];
                    exact += term;
                    size += std::abs(term);
                  }
                  INFO(out << " x " << in << ", rows " << rows);
                  REQUIRE(std::abs(y[static_cast<std::size_t>(m * out + o)] -
                                   exact) <= 1e-6 * size);
                }
            });
          }
}

TEST_CASE("dense_linear: a row depends on neither the others nor the range") {
  for (const NumberType type : kTypes) {
    const Case c = random_case(type, 11, 203, 0, 7, 5);
    for_each_dense_kernel([&] {
      const auto whole = product(c, c.storage.data(), c.x.data());
      std::vector<float> parts(whole.size(), -7.0f);
      const DenseMatrix w = {c.storage.data(), type, 11, 203, 203};
      for (const auto& [begin, end] :
           {std::pair<int, int>{0, 1}, {1, 1}, {1, 6}, {6, 11}})
        dense_linear(w, c.x.data(), 7, parts.data(), begin, end);
      CHECK(same_bits(whole, parts));
      std::vector<float> alone(11);
      dense_linear(w, c.x.data() + 3 * 203, 1, alone.data(), 0, 11);
      CHECK(same_bits(alone, {whole.begin() + 33, whole.begin() + 44}));
      dense_linear(w, c.x.data(), 0, parts.data(), 0, 11);
      CHECK(same_bits(whole, parts));
    });
  }
}

TEST_CASE("dense_linear: reads nothing past its arguments") {
  for (const NumberType type : kTypes)
    for (const std::int64_t in : {1, 15, 31, 64, 97}) {
      const Case c = random_case(type, 6, in, 3, 3, 2);
      const test::GuardedBuffer weight(c.storage), x(c.x);
      for_each_dense_kernel([&] {
        CHECK(same_bits(product(c, weight.as<void>(), x.as<float>()),
                        product(c, c.storage.data(), c.x.data())));
      });
    }
}

TEST_CASE("dense_linear: infinity and NaN stay what they are") {
  Case c = random_case(NumberType::kBFloat16, 2, 40, 0, 1, 3);
  c.x[39] = INFINITY;
  for_each_dense_kernel([&] {
    const auto y = product(c, c.storage.data(), c.x.data());
    CHECK(std::isinf(y[0]));
    CHECK(std::isinf(y[1]));
  });
  CHECK_FALSE(force_dense_linear_kernel("sse"));
}

}  // namespace
}  // namespace autoglm::kernels
