// The loops of dense_linear.h, compiled once per instruction set; see
// cpu_vectors.h for what may be included here.
#pragma once

#include "autoglm/kernels/dense_linear.h"
#include "kernels/cpu_vectors.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace autoglm::kernels {

struct DenseImplementation {
  const char* name;
  void (*linear)(const DenseMatrix&, const float*, std::int64_t, float*,
                 std::int64_t, std::int64_t);
};

const DenseImplementation* avx512_dense();  // null: not compiled in
const DenseImplementation* avx2_dense();

namespace {  // every file has its own

using cpu::kLanes;
using cpu::Lanes;

// Rows of the weight and of x whose sums are in registers at once.
constexpr int kWeightRows = 4;
constexpr int kMostTokens = kLanes == 16 ? 4 : 2;
// Blocks of rows that are asked for ahead: processors follow too few streams by
// themselves, and near the limit of what memory gives, answers take long.
constexpr int kBlocksAhead = 2;

// How numbers of a type become fp32, one or as many as a register holds.
struct Float32 {
  using Stored = float;
  static Lanes widen(const Stored* p) { return cpu::load(p); }
  static float widen_one(Stored value) { return value; }
};

struct BFloat16 {
  using Stored = std::uint16_t;
  static Lanes widen(const Stored* p) {
    using Halves = Stored
        __attribute__((vector_size(AUTOGLM_VECTOR_BYTES / 2), aligned(2)));
    using Words =
        std::uint32_t __attribute__((vector_size(AUTOGLM_VECTOR_BYTES)));
    return reinterpret_cast<Lanes>(
        __builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words)
        << 16);
  }
  static float widen_one(Stored value) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(value) << 16);
  }
};

struct Float16 {
  using Stored = _Float16;
  static Lanes widen(const Stored* p) {
#if AUTOGLM_VECTOR_BYTES == 64
    return _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif AUTOGLM_VECTOR_BYTES == 32
    return _mm256_cvtph_ps(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
    Lanes out;
    for (int i = 0; i < kLanes; ++i) out[i] = static_cast<float>(p[i]);
    return out;
#endif
  }
  static float widen_one(Stored value) { return static_cast<float>(value); }
};

// Rows o .. o + Rows of the weight with `Tokens` rows of x.
template <class Type, int Rows, int Tokens>
inline void dense_block(const DenseMatrix& w, std::int64_t o, const float* x,
                        float* y) {
  using Stored = typename Type::Stored;
  const Stored* row = static_cast<const Stored*>(w.values) + o * w.stride;
  const std::int64_t whole = w.in / kLanes * kLanes;
  Lanes sums[Rows * Tokens] = {};
  for (std::int64_t k = 0; k < whole; k += kLanes) {
    Lanes values[Rows];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      __builtin_prefetch(row + (kBlocksAhead * Rows + r) * w.stride + k);
      values[r] = Type::widen(row + r * w.stride + k);
    }
#pragma GCC unroll 4
    for (int m = 0; m < Tokens; ++m) {
      const Lanes token = cpu::load(x + m * w.in + k);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) sums[m * Rows + r] += values[r] * token;
    }
  }
  for (int m = 0; m < Tokens; ++m)
    for (int r = 0; r < Rows; ++r) {
      float total = cpu::sum(sums[m * Rows + r]);
      for (std::int64_t k = whole; k < w.in; ++k)
        total += Type::widen_one(row[r * w.stride + k]) * x[m * w.in + k];
      y[m * w.out + o + r] = total;
    }
}

template <class Type, int Rows, int Tokens = kMostTokens>
inline void dense_tokens(const DenseMatrix& w, std::int64_t o, const float* x,
                         std::int64_t tokens, float* y) {
  if constexpr (Tokens > 0) {
    for (; tokens >= Tokens; tokens -= Tokens) {
      dense_block<Type, Rows, Tokens>(w, o, x, y);
      x += Tokens * w.in;
      y += Tokens * w.out;
    }
    dense_tokens<Type, Rows, Tokens - 1>(w, o, x, tokens, y);
  }
}

template <class Type>
void dense_rows(const DenseMatrix& w, const float* x, std::int64_t tokens,
                float* y, std::int64_t begin, std::int64_t end) {
  std::int64_t o = begin;
  for (; o + kWeightRows <= end; o += kWeightRows)
    dense_tokens<Type, kWeightRows>(w, o, x, tokens, y);
  for (; o < end; ++o) dense_tokens<Type, 1>(w, o, x, tokens, y);
}

inline void dense_linear_any(const DenseMatrix& w, const float* x,
                             std::int64_t rows, float* y, std::int64_t begin,
                             std::int64_t end) {
  switch (w.type) {
    case cuda::NumberType::kFloat32:
      return dense_rows<Float32>(w, x, rows, y, begin, end);
    case cuda::NumberType::kBFloat16:
      return dense_rows<BFloat16>(w, x, rows, y, begin, end);
    case cuda::NumberType::kFloat16:
      return dense_rows<Float16>(w, x, rows, y, begin, end);
  }
}

}  // namespace
}  // namespace autoglm::kernels
