// AVX2 with FMA: 8 lanes. Compiled with -mavx2 -mfma; see packed_loops.h for
// what may be included here.
#include "kernels/packed_loops.h"

#if defined(__AVX2__)
#include <immintrin.h>

namespace autoglm::kernels {
namespace {

struct Avx2 {
  using F = __m256;
  static constexpr int kLanes = 8;
  static F zero() { return _mm256_setzero_ps(); }
  static F broadcast(float value) { return _mm256_set1_ps(value); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F value) { _mm256_storeu_ps(p, value); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(F value) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value),
                                   _mm256_extractf128_ps(value, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  template <int Bits>
  static void decode(const std::uint32_t* words, int zero, F* out) {
    const __m256i offset = _mm256_set1_epi32(zero);
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    // Only the chunk's own words are touched: the next may be past the end.
    const __m256i own = _mm256_cmpgt_epi32(_mm256_set1_epi32(Bits), lane);
    const __m256i all =
        _mm256_maskload_epi32(reinterpret_cast<const int*>(words), own);
    const __m256i mask = _mm256_set1_epi32((1 << Bits) - 1);
    for (int part = 0; part < 4; ++part) {
      const __m256i bit = _mm256_mullo_epi32(
          _mm256_add_epi32(lane, _mm256_set1_epi32(8 * part)),
          _mm256_set1_epi32(Bits));
      const __m256i word = _mm256_srli_epi32(bit, 5);
      const __m256i shift = _mm256_and_si256(bit, _mm256_set1_epi32(31));
      __m256i code =
          _mm256_srlv_epi32(_mm256_permutevar8x32_epi32(all, word), shift);
      if constexpr (32 % Bits != 0) {
        const __m256i next = _mm256_permutevar8x32_epi32(
            all, _mm256_add_epi32(word, _mm256_set1_epi32(1)));
        code = _mm256_or_si256(
            code, _mm256_sllv_epi32(
                      next, _mm256_sub_epi32(_mm256_set1_epi32(32), shift)));
      }
      code = _mm256_and_si256(code, mask);
      out[part] = _mm256_cvtepi32_ps(_mm256_sub_epi32(code, offset));
    }
  }
};

}  // namespace

const Implementation* avx2_implementation() {
  static constexpr Implementation value = {"avx2", linear_any<Avx2>,
                                           unpack_any<Avx2>};
  return &value;
}

}  // namespace autoglm::kernels

#else

namespace autoglm::kernels {
const Implementation* avx2_implementation() { return nullptr; }
}  // namespace autoglm::kernels

#endif
