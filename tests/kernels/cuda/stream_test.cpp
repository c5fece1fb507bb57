#include <cmath>
#include <limits>
#include <random>

#include "autoglm/kernels/cuda_stream_kernels.h"
#include "tests/kernels/cuda/linear_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels::cuda {
namespace {

using test::decode;
using test::DeviceBuffer;
using test::encode;
using test::has_device;

constexpr NumberType kAllTypes[] = {NumberType::kFloat32, NumberType::kBFloat16,
                                    NumberType::kFloat16};

// A step between neighbouring numbers, in shares of them.
double step(NumberType type) {
  return type == NumberType::kFloat32    ? 0x1p-23
         : type == NumberType::kBFloat16 ? 0x1p-7
                                         : 0x1p-10;
}

std::vector<float> random_floats(std::int64_t count, NumberType type,
                                 std::uint32_t seed, float size = 2) {
  std::mt19937 random(seed);
  std::vector<float> out;
  for (std::int64_t i = 0; i < count; ++i)
    out.push_back(size * (static_cast<float>(random()) / 2147483648.0f - 1));
  test::round_all(out, type);
  return out;
}

struct Normed {
  std::vector<float> y, sum;
};

Normed norm(const std::vector<float>& x, const std::vector<float>& residual,
            const std::vector<float>& gain, std::int64_t rows, NumberType type,
            float epsilon) {
  const DeviceBuffer dx(encode(x, type)), dr(encode(residual, type)),
      dg(encode(gain, type)), y(x.size() * test::size_of(type)),
      sum(x.size() * test::size_of(type));
  NormArguments a = {};
  a.x = dx.as<void>();
  a.residual = residual.empty() ? nullptr : dr.as<void>();
  a.sum = residual.empty() ? nullptr : sum.as<void>();
  a.gain = dg.as<void>();
  a.y = y.as<void>();
  a.type = type;
  a.rows = rows;
  a.size = static_cast<std::int64_t>(gain.size());
  a.epsilon = epsilon;
  REQUIRE(rms_norm(a, nullptr) == Status::kOk);
  return {decode(y.read<unsigned char>(), type),
          decode(sum.read<unsigned char>(), type)};
}

TEST_CASE("cuda rms_norm: a row computed by hand") {
  if (!has_device()) return;
  // Mean square (1 + 49) / 2 = 25.
  const Normed plain = norm({1, 7}, {}, {2, 10}, 1, NumberType::kFloat32, 0);
  CHECK(plain.y[0] == Approx(0.4f));
  CHECK(plain.y[1] == Approx(14.0f));
  const Normed added =
      norm({1, 3}, {0, 4}, {2, 10}, 1, NumberType::kFloat32, 0);
  CHECK(added.y == plain.y);
  CHECK(added.sum == std::vector<float>{1, 7});
  // The epsilon is inside the root: 1 / sqrt(0 + 4).
  CHECK(norm({0, 0}, {}, {2, 10}, 1, NumberType::kFloat32, 4).y ==
        std::vector<float>{0, 0});
  CHECK(norm({2, 2}, {}, {1, 3}, 1, NumberType::kFloat32, 12).y[1] ==
        Approx(1.5f));
}

TEST_CASE("cuda rms_norm: agrees with double at any length of a row") {
  if (!has_device()) return;
  std::uint32_t seed = 1;
  for (const NumberType type : kAllTypes)
    for (const std::int64_t size : {1, 31, 256, 4096, 5001})
      for (const bool has_residual : {false, true}) {
        const auto x = random_floats(3 * size, type, ++seed);
        const auto gain = random_floats(size, type, ++seed);
        const auto residual = has_residual
                                  ? random_floats(3 * size, type, ++seed)
                                  : std::vector<float>();
        const Normed got = norm(x, residual, gain, 3, type, 1e-5f);
        double worst = 0;
        std::int64_t other = 0;  // not what rounding twice gives
        bool sums = true;
        for (std::int64_t m = 0; m < 3; ++m) {
          std::vector<double> h;
          double squares = 0;
          for (std::int64_t i = m * size; i < (m + 1) * size; ++i) {
            h.push_back(x[i]);
            if (has_residual) {
              h.back() = rounded_to(type, x[i] + residual[i]);
              sums = sums && got.sum[i] == static_cast<float>(h.back());
            }
            squares += h.back() * h.back();
          }
          const double factor =
              1 / std::sqrt(squares / static_cast<double>(size) + 1e-5);
          for (std::int64_t i = 0; i < size; ++i) {
            const double exact = h[i] * factor * gain[i];
            const float scaled =
                rounded_to(type, static_cast<float>(h[i] * factor));
            if (got.y[m * size + i] != rounded_to(type, gain[i] * scaled))
              ++other;
            worst = std::max(worst, std::abs(got.y[m * size + i] - exact) /
                                        (std::abs(exact) + 1e-4));
          }
        }
        INFO("type " << static_cast<int>(type) << ", size " << size);
        // Two roundings, and fp32 sums of up to 5001 squares.
        CHECK(worst <= 1.5 * step(type) + 2e-6);
        CHECK(sums);
        if (type != NumberType::kFloat32) CHECK(other <= size / 100);
      }
}

TEST_CASE("cuda silu_product: agrees with double, also in strided halves") {
  if (!has_device()) return;
  for (const NumberType type : kAllTypes)
    for (const std::int64_t size : {1, 300, 1024}) {
      const auto both = random_floats(3 * 2 * size, type, 5, 8);
      const DeviceBuffer device(encode(both, type)),
          y(static_cast<std::size_t>(3 * size) * test::size_of(type));
      const auto half = static_cast<std::size_t>(size) * test::size_of(type);
      REQUIRE(silu_product({device.as<char>(), device.as<char>() + half,
                            2 * size, y.as<void>(), type, 3, size},
                           nullptr) == Status::kOk);
      const auto got = decode(y.read<unsigned char>(), type);
      double worst = 0;
      for (std::int64_t m = 0; m < 3; ++m)
        for (std::int64_t i = 0; i < size; ++i) {
          const double gate = both[m * 2 * size + i];
          const double exact =
              gate / (1 + std::exp(-gate)) * both[(m * 2 + 1) * size + i];
          worst = std::max(worst, std::abs(got[m * size + i] - exact) /
                                      (std::abs(exact) + 1e-4));
        }
      INFO("type " << static_cast<int>(type) << ", size " << size);
      CHECK(worst <= 1.01 * step(type) + 1e-6);
    }
}

// [batch, heads, tokens, size] from x with heads before or after the tokens.
struct Rotation {
  std::int64_t batch, heads, tokens, size, turned;
  bool interleaved, tokens_first, own_angles;
};

TEST_CASE("cuda rotate_heads: two pairs computed by hand") {
  if (!has_device()) return;
  const DeviceBuffer x(std::vector<float>{1, 2, 3, 4, 5}), y(20);
  // A quarter turn and none.
  const DeviceBuffer cosine(std::vector<float>{0, 1}),
      sine(std::vector<float>{1, 0});
  const auto rotate = [&](bool interleaved) {
    REQUIRE(rotate_heads({x.as<void>(), 5, 5, 5, cosine.as<float>(),
                          sine.as<float>(), 0, y.as<void>(),
                          NumberType::kFloat32, 1, 1, 1, 5, 4, interleaved},
                         nullptr) == Status::kOk);
    return y.read<float>();
  };
  CHECK(rotate(true) == std::vector<float>{-2, 1, 3, 4, 5});
  CHECK(rotate(false) == std::vector<float>{-3, 2, 1, 4, 5});
}

TEST_CASE("cuda rotate_heads: any strides, shared or own angles") {
  if (!has_device()) return;
  for (const NumberType type : kAllTypes)
    for (const Rotation& r : {Rotation{2, 3, 5, 64, 32, true, true, false},
                              Rotation{2, 3, 5, 64, 64, false, true, true},
                              Rotation{1, 4, 1, 128, 64, false, false, true},
                              Rotation{3, 1, 2, 10, 6, true, false, true},
                              Rotation{1, 2, 3, 8, 0, true, true, false}}) {
      const std::int64_t count = r.batch * r.heads * r.tokens * r.size;
      const auto x = random_floats(count, type, 3);
      const std::int64_t sets = r.own_angles ? r.batch : 1;
      const std::int64_t pairs = r.turned / 2;
      std::vector<float> cosine, sine;
      for (std::int64_t i = 0; i < sets * r.tokens * pairs; ++i) {
        cosine.push_back(std::cos(static_cast<float>(i)));
        sine.push_back(std::sin(static_cast<float>(i)));
      }
      const std::int64_t head_stride =
          r.tokens_first ? r.size : r.tokens * r.size;
      const std::int64_t token_stride =
          r.tokens_first ? r.heads * r.size : r.size;
      const std::int64_t batch_stride = r.heads * r.tokens * r.size;
      const DeviceBuffer dx(encode(x, type)), dc(cosine), ds(sine),
          y(static_cast<std::size_t>(count) * test::size_of(type));
      REQUIRE(rotate_heads(
                  {dx.as<void>(), batch_stride, head_stride, token_stride,
                   dc.as<float>(), ds.as<float>(),
                   r.own_angles ? r.tokens * pairs : 0, y.as<void>(), type,
                   r.batch, r.heads, r.tokens, r.size, r.turned, r.interleaved},
                  nullptr) == Status::kOk);
      const auto got = decode(y.read<unsigned char>(), type);
      std::int64_t wrong = 0, i = 0;
      for (std::int64_t b = 0; b < r.batch; ++b)
        for (std::int64_t h = 0; h < r.heads; ++h)
          for (std::int64_t t = 0; t < r.tokens; ++t)
            for (std::int64_t d = 0; d < r.size; ++d, ++i) {
              const float* head = x.data() + b * batch_stride +
                                  h * head_stride + t * token_stride;
              float want = head[d];
              if (d < r.turned) {
                const std::int64_t pair = r.interleaved ? d / 2 : d % pairs;
                const std::int64_t other = r.interleaved ? (d ^ 1)
                                           : d < pairs   ? d + pairs
                                                         : d - pairs;
                const std::int64_t angle =
                    ((r.own_angles ? b : 0) * r.tokens + t) * pairs + pair;
                const float along = head[d] * cosine[angle];
                const float across = head[other] * sine[angle];
                want = rounded_to(type,
                                  other > d ? along - across : along + across);
              }
              if (got[i] != want) ++wrong;
            }
      INFO("type " << static_cast<int>(type) << ", size " << r.size);
      CHECK(wrong == 0);
    }
}

struct Rounded {
  std::vector<std::int8_t> codes;
  std::vector<std::uint16_t> numbers;
  std::vector<float> steps;
};

Rounded round_vectors(const std::vector<float>& x, std::int64_t rows,
                      NumberType type, const std::vector<float>& given = {}) {
  const DeviceBuffer dx(encode(x, type)), dg(given), codes(x.size()),
      numbers(2 * x.size()), steps(static_cast<std::size_t>(rows) * 4);
  REQUIRE(
      round_to_int8(
          {dx.as<void>(), type, given.empty() ? nullptr : dg.as<float>(),
           codes.as<std::int8_t>(), numbers.as<std::uint16_t>(),
           steps.as<float>(), rows, static_cast<std::int64_t>(x.size()) / rows},
          nullptr) == Status::kOk);
  return {codes.read<std::int8_t>(), numbers.read<std::uint16_t>(),
          steps.read<float>()};
}

TEST_CASE("cuda round_to_int8: rows computed by hand") {
  if (!has_device()) return;
  // Step 2: 0.5 and 1.5 steps go to even numbers. A zero row has step 1.
  const Rounded r =
      round_vectors({254, 1, -3, 3.5f, 0, 0, 0, 0}, 2, NumberType::kFloat32);
  CHECK(r.steps == std::vector<float>{2, 1});
  CHECK(r.codes == std::vector<std::int8_t>{127, 0, -2, 2, 0, 0, 0, 0});
  CHECK(r.numbers == std::vector<std::uint16_t>{to_bf16(127), 0, to_bf16(-2),
                                                to_bf16(2), 0, 0, 0, 0});
  // A given step cuts off.
  const Rounded given =
      round_vectors({254, 1, -300, 0.5f}, 1, NumberType::kFloat32, {1});
  CHECK(given.steps == std::vector<float>{1});
  CHECK(given.codes == std::vector<std::int8_t>{127, 1, -127, 0});
}

TEST_CASE("cuda round_to_int8: nothing is off by more than half a step") {
  if (!has_device()) return;
  for (const NumberType type : kAllTypes)
    for (const std::int64_t size : {1, 100, 4096, 13696}) {
      const auto x = random_floats(2 * size, type, 11, 100);
      const Rounded r = round_vectors(x, 2, type);
      double worst = 0;
      int most[2] = {};
      for (std::int64_t i = 0; i < 2 * size; ++i) {
        const std::int64_t m = i / size;
        worst = std::max(
            worst,
            std::abs(r.codes[i] - static_cast<double>(x[i]) / r.steps[m]));
        most[m] = std::max(most[m], std::abs(static_cast<int>(r.codes[i])));
        if (from_bf16(r.numbers[i]) != static_cast<float>(r.codes[i]))
          FAIL("element " << i);
      }
      CHECK(worst <= 0.5001);
      CHECK(most[0] == 127);
      CHECK(most[1] == 127);
    }
}

TEST_CASE("cuda round_to_int8: a NaN makes the step of its row NaN") {
  if (!has_device()) return;
  std::vector<float> x(2 * 700, 1.0f);
  x[650] = std::numeric_limits<float>::quiet_NaN();
  const Rounded r = round_vectors(x, 2, NumberType::kBFloat16);
  CHECK(std::isnan(r.steps[0]));
  CHECK(r.steps[1] == Approx(1 / 127.0f));
}

TEST_CASE("cuda stream kernels: sizes that do not fit are refused") {
  float memory[4] = {};
  CHECK(rms_norm({memory, nullptr, memory, memory, memory, NumberType::kFloat32,
                  1, 4, 0},
                 nullptr) == Status::kBadSize);
  CHECK(rms_norm({memory, nullptr, nullptr, memory,
                  reinterpret_cast<char*>(memory) + 1, NumberType::kFloat32, 1,
                  2, 0},
                 nullptr) == Status::kBadAlignment);
  CHECK(silu_product({memory, memory, 1, memory, NumberType::kFloat32, 1, 2},
                     nullptr) == Status::kBadSize);
  CHECK(rotate_heads({memory, 1, 1, 1, memory, memory, 0, memory,
                      NumberType::kFloat32, 1, 1, 1, 4, 3, true},
                     nullptr) == Status::kBadSize);
  CHECK(round_to_int8({memory, NumberType::kFloat32, nullptr, nullptr, nullptr,
                       memory, 0, 4},
                      nullptr) == Status::kBadSize);
}

}  // namespace
}  // namespace autoglm::kernels::cuda
