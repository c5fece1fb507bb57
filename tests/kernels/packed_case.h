// A random packed weight with its plain values, for comparison in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "autoglm/kernels/packed_linear.h"
#include "tests/support/catch.h"

namespace autoglm::test {

struct Shape {
  std::int64_t out, in, group_size, rows;
  int bits;
  bool symmetric;
  kernels::ScaleType scale_type;

  std::string text() const {
    return std::string(kernels::packed_linear_kernel()) + ", bits " +
           std::to_string(bits) + ", out " + std::to_string(out) + ", in " +
           std::to_string(in) + ", group " + std::to_string(group_size) +
           ", rows " + std::to_string(rows) +
           (symmetric ? ", symmetric" : ", asymmetric");
  }
};

struct Case {
  Shape shape;
  std::vector<std::uint8_t> codes;          // [out, in]
  std::vector<std::uint32_t> words;         // packed
  std::vector<std::uint8_t> zero_codes;     // [out, groups]
  std::vector<float> scale_floats;          // [out, groups], what is meant
  std::vector<std::uint16_t> scale_halves;  // the same, in scale_type
  std::vector<float> x;                     // [rows, in]

  kernels::PackedMatrix matrix() const {
    const bool single = shape.scale_type == kernels::ScaleType::kFloat32;
    return {words.data(),
            single ? static_cast<const void*>(scale_floats.data())
                   : scale_halves.data(),
            shape.scale_type,
            shape.symmetric ? nullptr : zero_codes.data(),
            shape.out,
            shape.in,
            shape.group_size,
            shape.bits};
  }

  /// weight[o][k], exact.
  double value(std::int64_t o, std::int64_t k) const {
    const std::int64_t groups =
        (shape.in + shape.group_size - 1) / shape.group_size;
    const std::int64_t group = o * groups + k / shape.group_size;
    const int zero =
        shape.symmetric ? 1 << (shape.bits - 1) : zero_codes[group];
    return (codes[o * shape.in + k] - zero) *
           static_cast<double>(scale_floats[group]);
  }
};

inline Case make_case(const Shape& shape, std::uint32_t seed) {
  Case c;
  c.shape = shape;
  std::mt19937 random(seed);
  const std::int64_t groups =
      (shape.in + shape.group_size - 1) / shape.group_size;
  const auto code = [&] {
    return static_cast<std::uint8_t>(random() & ((1u << shape.bits) - 1));
  };
  for (std::int64_t i = 0; i < shape.out * shape.in; ++i)
    c.codes.push_back(code());
  c.words.resize(static_cast<std::size_t>(shape.out *
                                          ((shape.in * shape.bits + 31) / 32)));
  kernels::pack_rows(c.codes.data(), shape.out, shape.in, shape.bits,
                     c.words.data());
  for (std::int64_t i = 0; i < shape.out * groups; ++i) {
    c.zero_codes.push_back(code());
    // 7 significant bits: exact in bf16, fp16 and fp32 alike.
    const std::uint32_t mantissa = 64 + random() % 64;
    const int exponent = static_cast<int>(random() % 4) + 4;  // 2^-4 .. 2^-7
    const float scale = std::ldexp(static_cast<float>(mantissa), -6 - exponent);
    c.scale_floats.push_back(scale);
    std::uint32_t bits;
    std::memcpy(&bits, &scale, sizeof bits);
    c.scale_halves.push_back(
        shape.scale_type == kernels::ScaleType::kBFloat16
            ? static_cast<std::uint16_t>(bits >> 16)
            : static_cast<std::uint16_t>((15 - exponent) << 10 | (mantissa - 64)
                                                                     << 4));
  }
  for (std::int64_t i = 0; i < shape.rows * shape.in; ++i)
    c.x.push_back(static_cast<float>(random()) / 2147483648.0f - 1.0f);
  return c;
}

/// Runs `body` once per implementation that this machine has.
template <class Body>
void for_each_kernel(Body&& body) {
  struct Restore {
    ~Restore() { kernels::force_packed_linear_kernel("auto"); }
  } restore;
  for (const char* name : {"scalar", "avx2", "avx512"}) {
    if (!kernels::force_packed_linear_kernel(name)) continue;
    INFO("kernel " << name);
    body();
  }
}

}  // namespace autoglm::test
