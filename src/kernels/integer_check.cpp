#include <cstring>
#include <random>
#include <vector>

#include "autoglm/kernels/integer_linear.h"
#include "kernels/integer_implementation.h"

namespace autoglm::kernels {
namespace {

// Two spans of a group and a short one, more rows than two panels, a tile that
// is not full.
constexpr std::int64_t kIn = 228, kGroup = 128, kOut = 41;

struct Weight {
  std::vector<std::uint8_t> codes, zeros;
  std::vector<float> scales;
  InterleavedMatrix matrix;
};

Weight random_weight(int bits, std::mt19937& random) {
  Weight w;
  w.matrix.out = kOut;
  w.matrix.in = kIn;
  w.matrix.group_size = kGroup;
  w.matrix.bits = bits;
  w.matrix.scale_type = ScaleType::kFloat32;
  const auto cells =
      static_cast<std::size_t>(w.matrix.tiles() * w.matrix.groups() * 16);
  w.codes.resize(static_cast<std::size_t>(w.matrix.tiles() *
                                          tile_bytes(kIn, kGroup, bits)));
  for (std::uint8_t& code : w.codes) code = static_cast<std::uint8_t>(random());
  for (std::size_t i = 0; i < cells; ++i) {
    w.zeros.push_back(static_cast<std::uint8_t>(random() % (1u << bits)));
    w.scales.push_back(static_cast<float>(random() % 1000) / 1024);
  }
  w.matrix.codes = w.codes.data();
  w.matrix.scales = w.scales.data();
  w.matrix.zeros = w.zeros.data();
  return w;
}

std::vector<float> product(const IntegerImplementation& implementation,
                           const InterleavedMatrix& w,
                           const std::vector<float>& x, std::int64_t rows) {
  IntegerRows rounded(rows, {kIn, kGroup}, implementation);
  rounded.round(x.data(), 0, rows);
  std::vector<float> y(static_cast<std::size_t>(rows * kOut));
  integer_linear(w, rounded, y.data(), 0, w.tiles());
  return y;
}

}  // namespace

bool agrees_with_scalar(const IntegerImplementation& one) {
  std::mt19937 random(1);
  for (int bits = 2; bits <= 8; ++bits) {
    const Weight w = random_weight(bits, random);
    for (const std::int64_t rows : {1, 3, 11, 16, 40}) {
      std::vector<float> x(static_cast<std::size_t>(rows * kIn));
      for (float& value : x) value = static_cast<float>(random() % 2001) - 1000;
      const std::vector<float> a = product(one, w.matrix, x, rows);
      const std::vector<float> b =
          product(scalar_integer_implementation(), w.matrix, x, rows);
      if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0)
        return false;
    }
  }
  return true;
}

}  // namespace autoglm::kernels
