// The vector interface of integer_loops.h for AVX-512 with VNNI: a tile's
// vector is one register.
#pragma once

#include <immintrin.h>

#include "kernels/integer_loops.h"

namespace autoglm::kernels {
namespace {

struct Avx512Vnni {
  using Bytes = __m512i;
  // Not __m512i, which is a vector of 64-bit numbers: converted back and forth,
  // each sum would take two registers in g++ 12.
  using Ints = int __attribute__((vector_size(64)));
  using Floats = __m512;
  static constexpr int kTiles = 2, kTokens = 12;

  static Bytes load(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static void store(std::uint8_t* p, Bytes v) { _mm512_storeu_si512(p, v); }
  [[gnu::always_inline]] static void prefetch(const std::uint8_t* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
  }
  template <int S>
  static Bytes right(Bytes v) {
    return _mm512_srli_epi16(v, S);
  }
  template <int S>
  static Bytes left(Bytes v) {
    return _mm512_slli_epi16(v, S);
  }
  static Bytes right_by(Bytes v, int s) {
    return _mm512_srl_epi16(v, _mm_cvtsi32_si128(s));
  }
  static Bytes keep(Bytes v, int mask) {
    return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(mask)));
  }
  static Bytes merge(Bytes v, Bytes more, int mask) {
    return _mm512_ternarylogic_epi32(
        more, _mm512_set1_epi8(static_cast<char>(mask)), v, 0xea);
  }

  static Ints broadcast(std::int32_t v) { return Ints(_mm512_set1_epi32(v)); }
  static Ints load_ints(const std::int32_t* p) {
    return Ints(_mm512_load_si512(p));
  }
  static void store_ints(std::int32_t* p, Ints v) {
    _mm512_store_si512(p, __m512i(v));
  }
  static Ints widen_zeros(const std::uint8_t* p) {
    return Ints(_mm512_cvtepu8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static Ints add(Ints a, Ints b) { return a + b; }
  static Ints times(Ints a, std::int32_t b) { return a * b; }
  template <bool>
  static Ints dot(Ints sum, Bytes codes, const std::int8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, 4);
    return Ints(
        _mm512_dpbusd_epi32(__m512i(sum), codes, _mm512_set1_epi32(four)));
  }

  static Floats load_floats(const float* p) { return _mm512_load_ps(p); }
  static void store_floats(float* p, Floats v) { _mm512_store_ps(p, v); }
  static Floats load_scales(const void* scales, ScaleType type,
                            std::int64_t index) {
    if (type == ScaleType::kFloat32)
      return _mm512_loadu_ps(static_cast<const float*>(scales) + index);
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(
        static_cast<const std::uint16_t*>(scales) + index));
    if (type == ScaleType::kFloat16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(__m512i(v)); }
  static Floats scale_add(Floats a, Floats scale, float factor, Floats sum) {
    return _mm512_fmadd_ps(_mm512_mul_ps(a, scale), _mm512_set1_ps(factor),
                           sum);
  }

  static std::uint32_t largest(const float* p, std::int64_t n) {
    const __m512i mask = _mm512_set1_epi32(0x7fffffff);
    __m512i most = _mm512_setzero_si512();
    for (std::int64_t k = 0; k < n; k += 16) {
      const __mmask16 there =
          n - k >= 16 ? 0xffff : static_cast<__mmask16>((1u << (n - k)) - 1);
      most = _mm512_max_epu32(
          most, _mm512_and_si512(mask, _mm512_maskz_loadu_epi32(there, p + k)));
    }
    return _mm512_reduce_max_epu32(most);
  }
  static std::int32_t round(const float* p, float step, std::int8_t* out) {
    __m512 v = _mm512_div_ps(_mm512_loadu_ps(p), _mm512_set1_ps(step));
    v = _mm512_max_ps(_mm512_min_ps(v, _mm512_set1_ps(127)),
                      _mm512_set1_ps(-127));
    const __m512i whole = _mm512_cvtps_epi32(v);
    _mm_store_si128(reinterpret_cast<__m128i*>(out),
                    _mm512_cvtepi32_epi8(whole));
    return _mm512_reduce_add_epi32(whole);
  }
};

}  // namespace
}  // namespace autoglm::kernels
