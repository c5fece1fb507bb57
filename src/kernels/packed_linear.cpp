#include "autoglm/kernels/packed_linear.h"

#include <cstring>

#include "kernels/choice.h"
#include "kernels/cpu_features.h"
#include "kernels/packed_loops.h"

namespace autoglm::kernels {
namespace {

// One lane: the reference that runs everywhere.
struct Scalar {
  using F = float;
  static constexpr int kLanes = 1;
  static F zero() { return 0; }
  static F broadcast(float value) { return value; }
  static F load(const float* p) { return *p; }
  static void store(float* p, F value) { *p = value; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static float sum(F value) { return value; }
  template <int Bits>
  static void decode(const std::uint32_t* words, int zero, F* out) {
    for (int i = 0; i < 32; ++i)
      out[i] = static_cast<float>(code_at<Bits>(words, i) - zero);
  }
};

Choice<Implementation>& chosen() {
  static Choice<Implementation> value = {
      {avx512_implementation(), has_avx512()},
      {avx2_implementation(), has_avx2()},
      {&scalar_implementation(), true}};
  return value;
}

}  // namespace

const Implementation& scalar_implementation() {
  static constexpr Implementation value = {"scalar", linear_any<Scalar>,
                                           unpack_any<Scalar>};
  return value;
}

void packed_linear(const PackedMatrix& weight, const float* x,
                   std::int64_t rows, float* y, std::int64_t row_begin,
                   std::int64_t row_end) {
  chosen()->linear(weight, x, rows, y, row_begin, row_end);
}

void unpack_rows(const PackedMatrix& weight, std::int64_t row_begin,
                 std::int64_t row_end, float* out) {
  chosen()->unpack(weight, row_begin, row_end, out);
}

void pack_rows(const std::uint8_t* codes, std::int64_t out, std::int64_t in,
               int bits, std::uint32_t* words) {
  const std::int64_t row_words = (in * bits + 31) / 32;
  std::memset(words, 0, static_cast<std::size_t>(out * row_words) * 4);
  for (std::int64_t o = 0; o < out; ++o, codes += in, words += row_words) {
    for (std::int64_t k = 0; k < in; ++k) {
      const std::int64_t bit = k * bits;
      const int shift = static_cast<int>(bit & 31);
      words[bit >> 5] |= static_cast<std::uint32_t>(codes[k]) << shift;
      if (shift + bits > 32)
        words[(bit >> 5) + 1] |=
            static_cast<std::uint32_t>(codes[k]) >> (32 - shift);
    }
  }
}

void unpack_codes(const std::uint32_t* words, std::int64_t out, std::int64_t in,
                  int bits, std::uint8_t* codes) {
  const std::int64_t row_words = (in * bits + 31) / 32;
  const std::uint32_t mask = (1u << bits) - 1;
  for (std::int64_t o = 0; o < out; ++o, codes += in, words += row_words) {
    for (std::int64_t k = 0; k < in; ++k) {
      const std::int64_t bit = k * bits;
      const int shift = static_cast<int>(bit & 31);
      std::uint32_t value = words[bit >> 5] >> shift;
      if (shift + bits > 32) value |= words[(bit >> 5) + 1] << (32 - shift);
      codes[k] = static_cast<std::uint8_t>(value & mask);
    }
  }
}

const char* packed_linear_kernel() { return chosen()->name; }

bool force_packed_linear_kernel(const char* name) {
  return chosen().force(name);
}

}  // namespace autoglm::kernels
