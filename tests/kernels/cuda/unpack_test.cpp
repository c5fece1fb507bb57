#include <random>

#include "kernels/cuda/packed_codes.cuh"
#include "tests/kernels/cuda/linear_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels::cuda {
namespace {

using test::Case;
using test::DeviceBuffer;
using test::DeviceWeight;
using test::has_device;
using test::make_case;

constexpr NumberType kAllTypes[] = {NumberType::kFloat32, NumberType::kBFloat16,
                                    NumberType::kFloat16};

TEST_CASE("cuda unpack_rows: gives (code - zero) * scale, rounded once") {
  if (!has_device()) return;
  std::uint32_t seed = 1;
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::int64_t in : {1, 7, 33, 64, 130, 2056})
      for (const std::int64_t group : {1, 7, 32, 5000}) {
        const NumberType type = kAllTypes[seed % 3];
        const Case c = make_case({6, in, std::min(group, in), 1, bits,
                                  seed % 2 == 0, kAllTypes[seed / 3 % 3]},
                                 seed);
        ++seed;
        const DeviceBuffer out(static_cast<std::size_t>(3 * in) *
                               test::size_of(type));
        REQUIRE(unpack_rows(DeviceWeight(c).matrix, 2, 5, out.as<void>(), type,
                            nullptr) == Status::kOk);
        const auto got = test::decode(out.read<unsigned char>(), type);
        std::int64_t wrong = 0;
        for (std::int64_t o = 2; o < 5; ++o)
          for (std::int64_t k = 0; k < in; ++k)
            if (got[(o - 2) * in + k] !=
                rounded_to(type, static_cast<float>(c.value(o, k))))
              ++wrong;
        INFO(c.shape.text() << ", type " << static_cast<int>(type));
        CHECK(wrong == 0);
      }
}

TEST_CASE("cuda unpack_rows: e4m3 bytes times the scale of their row") {
  if (!has_device()) return;
  std::vector<std::uint8_t> values;
  for (int i = 0; i < 512; ++i)
    values.push_back(static_cast<std::uint8_t>(i % 127 + i % 2 * 128));
  const std::vector<float> scales = {0.5f, 3.0f};
  const DeviceBuffer device_values(values), device_scales(scales), out(256 * 4);
  const Float8Matrix w = {device_values.as<std::uint8_t>(),
                          device_scales.as<void>(), NumberType::kFloat32, 2,
                          256};
  REQUIRE(unpack_rows(w, 1, 2, out.as<void>(), NumberType::kFloat32, nullptr) ==
          Status::kOk);
  const auto got = out.read<float>();
  for (std::size_t k = 0; k < 256; ++k)
    CHECK(got[k] == 3.0f * float8_value(values[256 + k]));
}

TEST_CASE("cuda unpack_rows: rows that are not there are refused") {
  const Case c = make_case({4, 32, 32, 1, 4, true, ScaleType::kFloat32}, 1);
  float memory[128];
  const auto status = [&](std::int64_t begin, std::int64_t end) {
    return unpack_rows(c.matrix(), begin, end, memory, NumberType::kFloat32,
                       nullptr);
  };
  CHECK(status(0, 5) == Status::kBadSize);
  CHECK(status(-1, 2) == Status::kBadSize);
  CHECK(status(3, 2) == Status::kBadSize);
  CHECK(status(2, 2) == Status::kOk);
  CHECK(unpack_rows(c.matrix(), 0, 1, reinterpret_cast<char*>(memory) + 2,
                    NumberType::kFloat32, nullptr) == Status::kBadAlignment);
}

}  // namespace
}  // namespace autoglm::kernels::cuda
