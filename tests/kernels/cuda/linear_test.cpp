#include <cstring>
#include <limits>
#include <string>

#include "kernels/cuda/packed_codes.cuh"
#include "tests/kernels/cuda/linear_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels::cuda {
namespace {

using test::Case;
using test::DeviceBuffer;
using test::DeviceWeight;
using test::for_each_order;
using test::has_device;
using test::make_case;
using test::multiply;
using test::Types;

constexpr NumberType kAllTypes[] = {NumberType::kFloat32, NumberType::kBFloat16,
                                    NumberType::kFloat16};

// Half a step of rounding the result, at most, in shares of it.
double rounding(NumberType type) {
  return type == NumberType::kFloat32    ? 0x1p-24
         : type == NumberType::kBFloat16 ? 0x1p-8
                                         : 0x1p-11;
}

// Against the product in double. fp32 sums may miss it by some units in the
// last place of the sum of the absolute terms.
void check_against_double(Case c, Types types,
                          const std::vector<float>& bias = {}) {
  test::round_all(c.x, types.x);
  const DeviceWeight weight(c);
  const std::vector<float> y =
      multiply(weight.matrix, c.x, c.shape.rows, types, bias);
  double worst = 0;
  for (std::int64_t m = 0; m < c.shape.rows; ++m)
    for (std::int64_t o = 0; o < c.shape.out; ++o) {
      double exact = bias.empty() ? 0 : bias[o];
      double size = std::abs(exact);
      for (std::int64_t k = 0; k < c.shape.in; ++k) {
        const double term = c.value(o, k) * c.x[m * c.shape.in + k];
        exact += term;
        size += std::abs(term);
      }
      const double error = std::abs(y[m * c.shape.out + o] - exact) -
                           1.01 * rounding(types.y) * std::abs(exact);
      if (!(error <= 3e-6 * size + 1e-30))
        worst = HUGE_VAL;
      else if (size > 0)
        worst = std::max(worst, error / size);
    }
  INFO(c.shape.text() << ", x type " << static_cast<int>(types.x) << ", y type "
                      << static_cast<int>(types.y)
                      << ", largest error / sum |terms| " << worst);
  REQUIRE(worst <= 3e-6);
}

TEST_CASE("cuda packed_linear: a 2 x 4 matrix computed by hand") {
  if (!has_device()) return;
  // Codes less 8: row 0 is -8 0 1 7 at scale 0.5, row 1 is 2 2 -1 0 at 2.
  const DeviceBuffer words(std::vector<std::uint32_t>{0xf980, 0x87aa});
  const DeviceBuffer scales(std::vector<float>{0.5f, 2.0f});
  const PackedMatrix w = {words.as<std::uint32_t>(),
                          scales.as<void>(),
                          ScaleType::kFloat32,
                          nullptr,
                          2,
                          4,
                          4,
                          4};
  for (const NumberType x : kAllTypes)
    CHECK(multiply(w, {1, 2, 3, 4}, 1, {x, NumberType::kFloat32}) ==
          std::vector<float>{11.5f, 6.0f});
}

TEST_CASE("cuda packed_linear: agrees with double at every width and group") {
  if (!has_device()) return;
  std::uint32_t seed = 1;
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::int64_t in : {128, 384, 32, 75, 200})
      for (const std::int64_t group : {16, 32, 128, 1000})
        for (const bool symmetric : {true, false})
          check_against_double(
              make_case({19, in, std::min(group, in),
                         static_cast<std::int64_t>(seed % 9 + 1), bits,
                         symmetric, kAllTypes[seed % 3]},
                        seed),
              {kAllTypes[seed++ / 3 % 3], NumberType::kFloat32});
}

TEST_CASE("cuda packed_linear: every number of rows, in every type") {
  if (!has_device()) return;
  for (const NumberType x : kAllTypes)
    for (const NumberType y : kAllTypes)
      for (std::int64_t rows = 1; rows <= 17; ++rows)
        check_against_double(
            make_case({16, 256, 64, rows, 4, false, ScaleType::kBFloat16},
                      static_cast<std::uint32_t>(rows)),
            {x, y});
}

TEST_CASE("cuda packed_linear: rows of W that several blocks share") {
  if (!has_device()) return;
  for (const int bits : {2, 3, 4, 8})
    for (const NumberType x : {NumberType::kBFloat16, NumberType::kFloat32}) {
      const Case c = make_case({20, bits == 3 ? 8192 : 4096, 128, 3, bits,
                                bits == 3, ScaleType::kBFloat16},
                               static_cast<std::uint32_t>(bits));
      CHECK(linear_workspace(DeviceWeight(c).matrix, x, 3) > 0);
      check_against_double(c, {x, NumberType::kFloat32});
      check_against_double(c, {x, NumberType::kBFloat16},
                           std::vector<float>(20, 0.5f));
    }
}

TEST_CASE("cuda packed_linear: blocks that go on to the next tile") {
  if (!has_device()) return;
  // 132 chunks of 8 rows times 9 tiles: two tiles a block, the last alone.
  const Case c = make_case(
      {9 * 16 - 3, 96, 32, 8 * 132, 4, false, ScaleType::kFloat16}, 3);
  check_against_double(c, {NumberType::kFloat16, NumberType::kFloat32});
}

TEST_CASE("cuda packed_linear: any group size and any length of a row") {
  if (!has_device()) return;
  std::uint32_t seed = 1;
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::int64_t in : {1, 5, 31, 130})
      for (const std::int64_t group : {1, 7, 24})
        check_against_double(
            make_case({9, in, std::min(group, in), 1 + seed % 10, bits,
                       seed % 2 == 0, kAllTypes[seed % 3]},
                      seed),
            {kAllTypes[seed++ / 2 % 3], NumberType::kFloat32});
}

TEST_CASE("cuda packed_linear: a bias is added before rounding") {
  if (!has_device()) return;
  const Case c = make_case({33, 64, 32, 5, 5, false, ScaleType::kBFloat16}, 8);
  std::vector<float> bias(33);
  for (std::size_t o = 0; o < bias.size(); ++o)
    bias[o] = static_cast<float>(o) - 16.0f;
  for (const NumberType x : kAllTypes) check_against_double(c, {x, x}, bias);
}

TEST_CASE("cuda packed_linear: sums are multiplied by the step of their row") {
  if (!has_device()) return;
  // In one block, in several, and through the slow kernel.
  for (const std::int64_t in : {64, 4096, 50}) {
    const Case c = make_case({16, in, std::min<std::int64_t>(in, 128), 2, 8,
                              true, ScaleType::kFloat32},
                             4);
    const DeviceWeight weight(c);
    const auto plain = multiply(weight.matrix, c.x, 2, {});
    const DeviceBuffer x(test::encode(c.x, NumberType::kBFloat16));
    const DeviceBuffer steps(std::vector<float>{2.0f, -0.5f});
    const DeviceBuffer bias(std::vector<float>(16, 3.0f)), y(2 * 16 * 4);
    const DeviceBuffer workspace(static_cast<std::size_t>(
        linear_workspace(weight.matrix, NumberType::kBFloat16, 2)));
    REQUIRE(
        packed_linear(weight.matrix,
                      {x.as<void>(), NumberType::kBFloat16, steps.as<float>(),
                       bias.as<void>(), NumberType::kFloat32, y.as<void>(),
                       NumberType::kFloat32, 2, workspace.as<void>()},
                      nullptr) == Status::kOk);
    const auto got = y.read<float>();
    for (std::size_t o = 0; o < 16; ++o) {
      CHECK(got[o] == plain[o] * 2.0f + 3.0f);
      CHECK(got[16 + o] == plain[16 + o] * -0.5f + 3.0f);
    }
  }
}

TEST_CASE("cuda packed_linear: the same input gives the same bits again") {
  if (!has_device()) return;
  for (const std::int64_t in : {256, 8192, 50})
    for (const std::int64_t group : {32, 25}) {
      const Case c =
          make_case({40, in, group, 4, 4, false, ScaleType::kBFloat16}, 5);
      const DeviceWeight weight(c);
      std::vector<float> first;
      for_each_order([&] {
        const auto y = multiply(weight.matrix, c.x, 4, {});
        if (first.empty()) first = y;
        CHECK(std::memcmp(y.data(), first.data(), y.size() * 4) == 0);
      });
    }
}

TEST_CASE("cuda packed_linear: a row of NaN or infinity spoils no other") {
  if (!has_device()) return;
  for (const NumberType type : kAllTypes)
    for (const std::int64_t group : {32, 20}) {
      Case c = make_case({16, 160, group, 3, 4, true, ScaleType::kFloat32}, 6);
      const DeviceWeight weight(c);
      const auto clean = multiply(weight.matrix, c.x, 3, {type});
      c.x[160 + 7] = std::numeric_limits<float>::quiet_NaN();
      const auto y = multiply(weight.matrix, c.x, 3, {type});
      for (int o = 0; o < 16; ++o) {
        CHECK(y[o] == clean[o]);
        CHECK(std::isnan(y[16 + o]));
        CHECK(y[32 + o] == clean[32 + o]);
      }
    }
}

TEST_CASE("cuda packed_linear: an all-zero scale gives zero") {
  if (!has_device()) return;
  Case c = make_case({4, 96, 32, 3, 4, true, ScaleType::kFloat32}, 9);
  std::fill(c.scale_floats.begin(), c.scale_floats.end(), 0.0f);
  CHECK(multiply(DeviceWeight(c).matrix, c.x, 3, {}) ==
        std::vector<float>(12, 0.0f));
}

TEST_CASE("cuda packed_linear: what it does not take has its own status") {
  const Case c = make_case({4, 32, 32, 1, 4, true, ScaleType::kFloat32}, 1);
  alignas(16) char memory[64] = {};
  const auto status = [&](auto&& change) {
    PackedMatrix w = c.matrix();
    LinearArguments a = {
        memory, NumberType::kFloat32, nullptr, nullptr, NumberType::kFloat32,
        memory, NumberType::kFloat32, 1,       nullptr};
    change(w, a);
    return packed_linear(w, a, nullptr);
  };
  CHECK(status([](auto& w, auto&) { w.bits = 1; }) == Status::kBadBits);
  CHECK(status([](auto& w, auto&) { w.bits = 9; }) == Status::kBadBits);
  CHECK(status([](auto& w, auto&) { w.out = 0; }) == Status::kBadSize);
  CHECK(status([](auto& w, auto&) { w.in = (1 << 30) + 1; }) ==
        Status::kBadSize);
  CHECK(status([](auto& w, auto&) { w.group_size = 0; }) == Status::kBadSize);
  CHECK(status([](auto&, auto& a) { a.rows = 0; }) == Status::kBadSize);
  CHECK(status([&](auto&, auto& a) { a.x = memory + 2; }) ==
        Status::kBadAlignment);
  CHECK(status([&](auto&, auto& a) { a.bias = memory + 1; }) ==
        Status::kBadAlignment);
  CHECK(status([](auto& w, auto&) { w.in = w.group_size = 16384; }) ==
        Status::kNoWorkspace);
  CHECK(std::string(text(Status::kBadBits)) == "codes have 2 to 8 bits");
}

TEST_CASE("cuda float8_linear: agrees with double") {
  if (!has_device()) return;
  std::mt19937 random(1);
  for (const std::int64_t in : {64, 16, 20, 13, 2048})
    for (const std::int64_t rows : {1, 4, 11})
      for (const NumberType type : kAllTypes) {
        const std::int64_t out = 18;
        std::vector<std::uint8_t> values(static_cast<std::size_t>(out * in));
        for (auto& value : values) {
          value = static_cast<std::uint8_t>(random());
          if ((value & 0x7f) == 0x7f) value ^= 1;
        }
        std::vector<float> x(static_cast<std::size_t>(rows * in)), scales;
        for (float& v : x) v = static_cast<float>(random() % 2001) / 1000 - 1;
        test::round_all(x, type);
        for (std::int64_t o = 0; o < out; ++o)
          scales.push_back(static_cast<float>(random() % 64 + 64) / 1024);
        const DeviceBuffer device_values(values),
            device_x(test::encode(x, type)),
            device_scales(test::encode(scales, type)),
            y(static_cast<std::size_t>(rows * out) * 4);
        const Float8Matrix w = {device_values.as<std::uint8_t>(),
                                device_scales.as<void>(), type, out, in};
        const DeviceBuffer workspace(
            static_cast<std::size_t>(linear_workspace(w, type, rows)));
        REQUIRE(float8_linear(w,
                              {device_x.as<void>(), type, nullptr, nullptr,
                               type, y.as<void>(), NumberType::kFloat32, rows,
                               workspace.as<void>()},
                              nullptr) == Status::kOk);
        const auto got = y.read<float>();
        double worst = 0;
        for (std::int64_t m = 0; m < rows; ++m)
          for (std::int64_t o = 0; o < out; ++o) {
            double exact = 0, size = 0;
            for (std::int64_t k = 0; k < in; ++k) {
              const double term = static_cast<double>(scales[o]) *
                                  x[m * in + k] *
                                  float8_value(values[o * in + k]);
              exact += term;
              size += std::abs(term);
            }
            worst = std::max(worst, std::abs(got[m * out + o] - exact) / size);
          }
        INFO("in " << in << ", rows " << rows << ", error " << worst);
        CHECK(worst <= 3e-6);
      }
}

}  // namespace
}  // namespace autoglm::kernels::cuda
