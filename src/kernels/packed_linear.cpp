#include "autoglm/kernels/packed_linear.h"

#include <atomic>
#include <cstring>

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

const Implementation* best_implementation() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (avx512_implementation() != nullptr && __builtin_cpu_supports("avx512f"))
    return avx512_implementation();
  if (avx2_implementation() != nullptr && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma"))
    return avx2_implementation();
#endif
  return &scalar_implementation();
}

std::atomic<const Implementation*>& chosen() {
  static std::atomic<const Implementation*> value = best_implementation();
  return value;
}

bool runs_here(const Implementation* implementation) {
#if defined(__x86_64__)
  if (implementation == nullptr) return false;
  if (implementation == avx512_implementation())
    return __builtin_cpu_supports("avx512f");
  if (implementation == avx2_implementation())
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return implementation != nullptr;
}

}  // namespace

const Implementation& scalar_implementation() {
  static const Implementation value = {"scalar", linear_any<Scalar>,
                                       unpack_any<Scalar>};
  return value;
}

void packed_linear(const PackedMatrix& weight, const float* x,
                   std::int64_t rows, float* y, std::int64_t row_begin,
                   std::int64_t row_end) {
  chosen().load()->linear(weight, x, rows, y, row_begin, row_end);
}

void unpack_rows(const PackedMatrix& weight, std::int64_t row_begin,
                 std::int64_t row_end, float* out) {
  chosen().load()->unpack(weight, row_begin, row_end, out);
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

const char* packed_linear_kernel() { return chosen().load()->name; }

bool force_packed_linear_kernel(const char* name) {
  if (std::strcmp(name, "auto") == 0) {
    chosen() = best_implementation();
    return true;
  }
  for (const Implementation* candidate :
       {&scalar_implementation(), avx2_implementation(),
        avx512_implementation()}) {
    if (candidate == nullptr || std::strcmp(candidate->name, name) != 0)
      continue;
    if (!runs_here(candidate)) return false;
    chosen() = candidate;
    return true;
  }
  return false;
}

}  // namespace autoglm::kernels
