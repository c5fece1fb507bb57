// The vector interface for AVX2: a tile's vector is two registers. With
// AVX-VNNI one instruction multiplies and adds bytes; without it two or three
// do.
#pragma once

#include <immintrin.h>

#include "kernels/integer_loops.h"

namespace autoglm::kernels {
namespace {

struct Avx2Bytes {
  __m256i low, high;  // rows 0..7, 8..15
};
struct Avx2Ints {
  // Not __m256i: see integer_linear_avx512.cpp.
  using Half = int __attribute__((vector_size(32)));
  Half low, high;
};
struct Avx2Floats {
  __m256 low, high;
};

template <bool Vnni>
struct Avx2Integer {
  using Bytes = Avx2Bytes;
  using Ints = Avx2Ints;
  using Half = Avx2Ints::Half;
  using Floats = Avx2Floats;
  static constexpr int kTiles = 1, kTokens = 4;

  static Bytes load(const std::uint8_t* p) {
    const auto* vectors = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(vectors), _mm256_loadu_si256(vectors + 1)};
  }
  static void store(std::uint8_t* p, Bytes v) {
    auto* vectors = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(vectors, v.low);
    _mm256_storeu_si256(vectors + 1, v.high);
  }
  [[gnu::always_inline]] static void prefetch(const std::uint8_t* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
  }
  template <int S>
  static Bytes right(Bytes v) {
    return {_mm256_srli_epi16(v.low, S), _mm256_srli_epi16(v.high, S)};
  }
  template <int S>
  static Bytes left(Bytes v) {
    return {_mm256_slli_epi16(v.low, S), _mm256_slli_epi16(v.high, S)};
  }
  static Bytes right_by(Bytes v, int s) {
    const __m128i count = _mm_cvtsi32_si128(s);
    return {_mm256_srl_epi16(v.low, count), _mm256_srl_epi16(v.high, count)};
  }
  static Bytes keep(Bytes v, int mask) {
    const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_and_si256(v.low, m), _mm256_and_si256(v.high, m)};
  }
  static Bytes merge(Bytes v, Bytes more, int mask) {
    const Bytes kept = keep(more, mask);
    return {_mm256_or_si256(v.low, kept.low),
            _mm256_or_si256(v.high, kept.high)};
  }

  static Ints broadcast(std::int32_t v) {
    return {Half(_mm256_set1_epi32(v)), Half(_mm256_set1_epi32(v))};
  }
  static Ints load_ints(const std::int32_t* p) {
    const Bytes v = load(reinterpret_cast<const std::uint8_t*>(p));
    return {Half(v.low), Half(v.high)};
  }
  static void store_ints(std::int32_t* p, Ints v) {
    store(reinterpret_cast<std::uint8_t*>(p),
          {__m256i(v.low), __m256i(v.high)});
  }
  static Ints widen_zeros(const std::uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {Half(_mm256_cvtepu8_epi32(bytes)),
            Half(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
  }
  static Ints add(Ints a, Ints b) { return {a.low + b.low, a.high + b.high}; }
  static Ints times(Ints a, std::int32_t b) { return {a.low * b, a.high * b}; }

  template <bool Wide>
  static Half dot_half(Half sum, __m256i codes, __m256i four) {
    if constexpr (Vnni) {
#if defined(__AVXVNNI__)
      return Half(_mm256_dpbusd_avx_epi32(__m256i(sum), codes, four));
#endif
    }
    if constexpr (Wide) {
      // Pairs of products up to 255 * 127 do not fit 16 bits: bytes are widened
      // first, even and odd ones apart.
      const __m256i even =
          _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xff)),
                            _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8));
      const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8),
                                            _mm256_srai_epi16(four, 8));
      return sum + Half(even) + Half(odd);
    }
    // 2 * 127 * 127 fits 16 bits: no saturation.
    return sum + Half(_mm256_madd_epi16(_mm256_maddubs_epi16(codes, four),
                                        _mm256_set1_epi16(1)));
  }
  template <bool Wide>
  static Ints dot(Ints sum, Bytes codes, const std::int8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, 4);
    const __m256i all = _mm256_set1_epi32(four);
    return {dot_half<Wide>(sum.low, codes.low, all),
            dot_half<Wide>(sum.high, codes.high, all)};
  }

  static Floats load_floats(const float* p) {
    return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  }
  static void store_floats(float* p, Floats v) {
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
  }
  static Floats load_scales(const void* scales, ScaleType type,
                            std::int64_t index) {
    if (type == ScaleType::kFloat32)
      return load_floats(static_cast<const float*>(scales) + index);
    const auto* p = reinterpret_cast<const __m128i*>(
        static_cast<const std::uint16_t*>(scales) + index);
    const __m128i low = _mm_loadu_si128(p), high = _mm_loadu_si128(p + 1);
    if (type == ScaleType::kFloat16)
      return {_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)};
    return {
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(low), 16)),
        _mm256_castsi256_ps(
            _mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16))};
  }
  static Floats to_floats(Ints v) {
    return {_mm256_cvtepi32_ps(__m256i(v.low)),
            _mm256_cvtepi32_ps(__m256i(v.high))};
  }
  static Floats scale_add(Floats a, Floats scale, float factor, Floats sum) {
    const __m256 f = _mm256_set1_ps(factor);
    return {_mm256_fmadd_ps(_mm256_mul_ps(a.low, scale.low), f, sum.low),
            _mm256_fmadd_ps(_mm256_mul_ps(a.high, scale.high), f, sum.high)};
  }

  static std::uint32_t largest(const float* p, std::int64_t n) {
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    std::int64_t k = 0;
    for (; k + 8 <= n; k += 8)
      most = _mm256_max_epu32(
          most,
          _mm256_and_si256(mask, _mm256_loadu_si256(
                                     reinterpret_cast<const __m256i*>(p + k))));
    alignas(32) std::uint32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), most);
    std::uint32_t out = 0;
    for (const std::uint32_t lane : lanes) out = lane > out ? lane : out;
    for (; k < n; ++k) {
      const std::uint32_t bits =
          __builtin_bit_cast(std::uint32_t, p[k]) & 0x7fffffffu;
      out = bits > out ? bits : out;
    }
    return out;
  }
  static __m256i round_half(const float* p, float step) {
    __m256 v = _mm256_div_ps(_mm256_loadu_ps(p), _mm256_set1_ps(step));
    v = _mm256_max_ps(_mm256_min_ps(v, _mm256_set1_ps(127)),
                      _mm256_set1_ps(-127));
    return _mm256_cvtps_epi32(v);
  }
  static std::int32_t round(const float* p, float step, std::int8_t* out) {
    const __m256i low = round_half(p, step), high = round_half(p + 8, step);
    // Packing works within halves: their order is put right afterwards.
    const __m256i words = _mm256_permute4x64_epi64(
        _mm256_packs_epi32(low, high), 0xd8);  // 16 x int16
    _mm_store_si128(reinterpret_cast<__m128i*>(out),
                    _mm_packs_epi16(_mm256_castsi256_si128(words),
                                    _mm256_extracti128_si256(words, 1)));
    const __m256i pairs = _mm256_add_epi32(low, high);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(pairs),
                                _mm256_extracti128_si256(pairs, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
  }
};

}  // namespace
}  // namespace autoglm::kernels
