// Vectors of fp32 as wide as the registers of the file that includes this:
// AUTOGLM_VECTOR_BYTES is 16, 32 or 64. Nothing of the standard library with
// code of its own may be included here: the linker would keep one copy of it,
// perhaps the one for another processor.
#pragma once

#include <cstdint>

namespace autoglm::kernels::cpu {
namespace {  // every file has its own

constexpr int kLanes = AUTOGLM_VECTOR_BYTES / 4;
using Lanes = float __attribute__((vector_size(AUTOGLM_VECTOR_BYTES)));
using Whole = std::int32_t __attribute__((vector_size(AUTOGLM_VECTOR_BYTES)));
// The same at any address.
using LooseLanes =
    float __attribute__((vector_size(AUTOGLM_VECTOR_BYTES), aligned(4)));
// As many sums side by side as the 32 or 16 registers hold.
constexpr int kTokensAtOnce = kLanes == 16 ? 4 : 2;
constexpr int kVectorsAtOnce = kLanes == 16 ? 4 : 2;

inline Lanes load(const float* p) {
  return *reinterpret_cast<const LooseLanes*>(p);
}
inline void store(float* p, Lanes value) {
  *reinterpret_cast<LooseLanes*>(p) = value;
}
// Halves are added until four are left: a chain of as many additions as there
// are lanes would take longer than the products before it.
template <class Vector>
inline float sum(Vector value) {
  using Four = float __attribute__((vector_size(16)));
  Four four;
  if constexpr (kLanes == 16) {
    using Eight = float __attribute__((vector_size(32)));
    const Eight eight =
        __builtin_shufflevector(value, value, 0, 1, 2, 3, 4, 5, 6, 7) +
        __builtin_shufflevector(value, value, 8, 9, 10, 11, 12, 13, 14, 15);
    four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3) +
           __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  } else if constexpr (kLanes == 8) {
    four = __builtin_shufflevector(value, value, 0, 1, 2, 3) +
           __builtin_shufflevector(value, value, 4, 5, 6, 7);
  } else {
    four = value;
  }
  return (four[0] + four[2]) + (four[1] + four[3]);
}
#if AUTOGLM_VECTOR_BYTES == 64
// The sums of 16 vectors, in their order: halves, quarters, eighths and single
// lanes of two vectors are added into one.
inline Lanes sums(const Lanes* v) {
  Lanes half[8], quarter[4], eighth[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const Lanes a = v[2 * i], b = v[2 * i + 1];
    half[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18,
                                      19, 20, 21, 22, 23) +
              __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24,
                                      25, 26, 27, 28, 29, 30, 31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    const Lanes a = half[2 * i], b = half[2 * i + 1];
    quarter[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17,
                                         18, 19, 24, 25, 26, 27) +
                 __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20,
                                         21, 22, 23, 28, 29, 30, 31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 2; ++i) {
    const Lanes a = quarter[2 * i], b = quarter[2 * i + 1];
    eighth[i] = __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17,
                                        20, 21, 24, 25, 28, 29) +
                __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18,
                                        19, 22, 23, 26, 27, 30, 31);
  }
  const Lanes a = eighth[0], b = eighth[1];
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20,
                                 22, 24, 26, 28, 30) +
         __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21,
                                 23, 25, 27, 29, 31);
}
#endif

inline float largest(Lanes value) {
  float out = value[0];
  for (int i = 1; i < kLanes; ++i) out = value[i] > out ? value[i] : out;
  return out;
}

// 2^n e^r with n whole and |r| at most ln(2) / 2, by the series of e^r; 0 where
// e^x has no normal number, infinity never (x stops at 88).
inline Lanes exponential(Lanes x) {
  const Lanes low = x < -87.0F ? Lanes{} + -87.0F : x;
  const Lanes y = low > 88.0F ? Lanes{} + 88.0F : low;
  const Lanes scaled = y * 1.44269504F;
  const Whole n = __builtin_convertvector(
      scaled + (scaled < 0.0F ? Lanes{} - 0.5F : Lanes{} + 0.5F), Whole);
  const Lanes whole = __builtin_convertvector(n, Lanes);
  // ln(2) in two numbers, the first with few bits: its product is exact.
  const Lanes r = (y - whole * 0.693359375F) - whole * -2.12194440e-4F;
  Lanes e = Lanes{} + 1.0F / 5040;
  e = e * r + 1.0F / 720;
  e = e * r + 1.0F / 120;
  e = e * r + 1.0F / 24;
  e = e * r + 1.0F / 6;
  e = e * r + 0.5F;
  e = e * r + 1.0F;
  e = e * r + 1.0F;
  union {
    Whole bits;
    Lanes value;
  } power;
  power.bits = (n + 127) << 23;
  return x < -87.0F ? Lanes{} : e * power.value;
}

// One number through the lanes' arithmetic.
inline float exponential(float x) { return exponential(Lanes{} + x)[0]; }

}  // namespace
}  // namespace autoglm::kernels::cpu
