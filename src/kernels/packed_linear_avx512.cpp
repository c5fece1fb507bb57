// AVX-512: 16 lanes. Compiled with -mavx512f -mfma; see packed_loops.h for
// what may be included here.
#include "kernels/packed_loops.h"

#if defined(__AVX512F__)
#include <immintrin.h>

namespace autoglm::kernels {
namespace {

struct Avx512 {
  using F = __m512;
  static constexpr int kLanes = 16;
  static F zero() { return _mm512_setzero_ps(); }
  static F broadcast(float value) { return _mm512_set1_ps(value); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F value) { _mm512_storeu_ps(p, value); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(F value) { return _mm512_reduce_add_ps(value); }

  template <int Bits>
  static void decode(const std::uint32_t* words, int zero, F* out) {
    const __m512i offset = _mm512_set1_epi32(zero);
    if constexpr (Bits == 8) {
      for (int half = 0; half < 2; ++half) {
        const __m128i bytes =
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(words + 4 * half));
        out[half] = _mm512_cvtepi32_ps(
            _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), offset));
      }
      return;
    }
    const __m512i all =
        _mm512_maskz_loadu_epi32((__mmask16{1} << Bits) - 1, words);
    const __m512i mask = _mm512_set1_epi32((1 << Bits) - 1);
    const __m512i lane =
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int half = 0; half < 2; ++half) {
      const __m512i bit = _mm512_mullo_epi32(
          _mm512_add_epi32(lane, _mm512_set1_epi32(16 * half)),
          _mm512_set1_epi32(Bits));
      const __m512i word = _mm512_srli_epi32(bit, 5);
      const __m512i shift = _mm512_and_si512(bit, _mm512_set1_epi32(31));
      __m512i code =
          _mm512_srlv_epi32(_mm512_permutexvar_epi32(word, all), shift);
      if constexpr (32 % Bits != 0) {
        const __m512i next = _mm512_permutexvar_epi32(
            _mm512_add_epi32(word, _mm512_set1_epi32(1)), all);
        code = _mm512_or_si512(
            code, _mm512_sllv_epi32(
                      next, _mm512_sub_epi32(_mm512_set1_epi32(32), shift)));
      }
      code = _mm512_and_si512(code, mask);
      out[half] = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, offset));
    }
  }
};

}  // namespace

const Implementation* avx512_implementation() {
  static constexpr Implementation value = {"avx512", linear_any<Avx512>,
                                           unpack_any<Avx512>};
  return &value;
}

}  // namespace autoglm::kernels

#else

namespace autoglm::kernels {
const Implementation* avx512_implementation() { return nullptr; }
}  // namespace autoglm::kernels

#endif
