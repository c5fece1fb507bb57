// Attention of one token per sequence over a long cache.
//
// A block takes up to 16 queries that share a key/value head, and a run of
// tokens; its 4 warps take 16 tokens at a time in turns. Scores and values go
// through mma.m16n8k16 with the queries as its 16 rows. Both the k of the first
// product and the columns of the second count the dims of a head, whose order
// is free: a lane reads whole words of the cache and takes the dims in them as
// they come. Nothing but the merging of warps passes through shared memory.
//
// Coded heads are multiplied as codes less the middle one, exact in 16 bits;
// step and middle of a token multiply its score and its probability, which is
// the same by linearity.
#pragma once

#include "autoglm/kernels/cuda_stream_kernels.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/packed_codes.cuh"

namespace autoglm::kernels::cuda {

constexpr int kAttentionWarps = 4;
constexpr int kQueries = 16;     // of a block
constexpr int kStepTokens = 16;  // of a warp
constexpr float kLog2E = 1.44269504f;

struct AttentionTask {
  AttentionArguments a;
  int queries_per_group, query_tiles;
  int splits, split_tokens;
  float* partial;  // [batch, heads, splits, size + 2], or null for one split
};

/// A word of the cache: kElements dims of a head as pairs of 16-bit numbers.
template <class Number>
struct PlainCache {
  using Word = uint4;
  static constexpr int kElements = 8;
  static constexpr bool kCoded = false;
  /// The dim, counted from the word's first, of number `half` of pair i.
  AUTOGLM_HOST_DEVICE static constexpr int element(int i, int half) {
    return 2 * i + half;
  }
  __device__ __forceinline__ static Word load(const void* cache,
                                              std::int64_t head, int dim) {
    return load_streaming(reinterpret_cast<const uint4*>(
        static_cast<const std::uint16_t*>(cache) + head + dim));
  }
  __device__ __forceinline__ static Word nothing() { return {0, 0, 0, 0}; }
  __device__ __forceinline__ static std::uint32_t pair(const Word& word,
                                                       int i) {
    return i == 0 ? word.x : i == 1 ? word.y : i == 2 ? word.z : word.w;
  }
};

template <class Number, int kBits>
struct CodedCache {
  using Word = std::uint32_t;
  static constexpr int kElements = 32 / kBits;
  static constexpr bool kCoded = true;
  static constexpr int kMiddle = 1 << (kBits - 1);
  AUTOGLM_HOST_DEVICE static constexpr int element(int i, int half) {
    return pair_element(kBits, i, half);
  }
  __device__ __forceinline__ static Word load(const void* cache,
                                              std::int64_t head, int dim) {
    return load_constant(reinterpret_cast<const std::uint32_t*>(
        static_cast<const std::uint8_t*>(cache) + head + dim * kBits / 8));
  }
  __device__ __forceinline__ static Word nothing() { return 0; }
  __device__ __forceinline__ static std::uint32_t pair(const Word& word,
                                                       int i) {
    return decode_codes<kBits, 1, Number>(&word, i,
                                          CodeOffset<kBits, Number>(kMiddle));
  }
};

/// What a token's codes mean: number = (code - middle) * step + centre.
struct Ends {
  float step, centre;
};

template <class Cache>
__device__ __forceinline__ Ends load_ends(const void* cache, std::int64_t head,
                                          int size) {
  if constexpr (Cache::kCoded) {
    const std::uint32_t both =
        load_constant(reinterpret_cast<const std::uint32_t*>(
            static_cast<const std::uint8_t*>(cache) + head +
            size * 4 / Cache::kElements));
    const float step = from_fp16(low_half(both));
    return {step, from_fp16(high_half(both)) + Cache::kMiddle * step};
  } else {
    return {1, 0};
  }
}

/// Over the four lanes of a row.
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}
__device__ __forceinline__ float quad_maximum(float value) {
  value = maximum(value, __shfl_xor_sync(kAllLanes, value, 1));
  return maximum(value, __shfl_xor_sync(kAllLanes, value, 2));
}

/// The block's queries in the lanes' order of dims.
template <class Cache, int kSize>
struct Queries {
  static constexpr int kLoads = kSize / (4 * Cache::kElements);
  static constexpr int kSteps = Cache::kElements / 4;  // mmas per load
  std::uint32_t a[kLoads][kSteps][4];
  float sum[2];  // of the dims of rows g and g + 8; coded caches

  template <class Number>
  __device__ void load(const AttentionTask& task, std::int64_t batch,
                       int first_head, int count) {
    const auto* query = static_cast<const std::uint16_t*>(task.a.query) +
                        batch * task.a.query_batch_stride;
    const int lane = static_cast<int>(threadIdx.x % 32);
    sum[0] = sum[1] = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
#pragma unroll
      for (int j = 0; j < kSteps; ++j)
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int row = lane / 4 + 8 * (r % 2);
          const int base = (4 * i + lane % 4) * Cache::kElements;
          const int p = 2 * j + r / 2;
          a[i][j][r] = 0;
          if (row >= count) continue;
          const auto* head =
              query + (first_head + row) * task.a.query_head_stride + base;
          const std::uint16_t low = head[Cache::element(p, 0)];
          const std::uint16_t high = head[Cache::element(p, 1)];
          a[i][j][r] = static_cast<std::uint32_t>(high) << 16 | low;
          sum[r % 2] += Number::widen(low) + Number::widen(high);
        }
    sum[0] = quad_sum(sum[0]);
    sum[1] = quad_sum(sum[1]);
  }
};

/// Running softmax of rows g and g + 8 (Milakov and Gimelshein 2018,
/// arXiv:1805.02867), in powers of two. Columns 2t and 2t + 1 of tile
/// (load i, element e) are the dims (8 i + column) * kElements + e.
template <class Cache, int kSize>
struct Softmax {
  static constexpr int kLoads = kSize / (8 * Cache::kElements);
  float most[2], sum[2];
  float centre[2];  // what all dims get, of coded values; of this lane's tokens
  float out[kLoads][Cache::kElements][4];

  __device__ __forceinline__ void clear() {
    for (int r = 0; r < 2; ++r) {
      most[r] = as_float(0xff800000u);  // -infinity
      sum[r] = centre[r] = 0;
    }
#pragma unroll
    for (int i = 0; i < kLoads * Cache::kElements * 4; ++i)
      out[i / (Cache::kElements * 4)][i / 4 % Cache::kElements][i % 4] = 0;
  }

  /// Scores become probabilities relative to the new maximum.
  __device__ __forceinline__ void absorb(float (&score)[2][4]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float best = most[r];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        best = maximum(best, score[i / 2][2 * r + i % 2]);
      best = quad_maximum(best);
      // Nothing seen so far: any finite number will do.
      const float base = best == as_float(0xff800000u) ? 0.0f : best;
      const float factor = exp2f(most[r] - base);
      most[r] = best;
      float own = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& s = score[i / 2][2 * r + i % 2];
        s = exp2f(s - base);
        own += s;
      }
      sum[r] = sum[r] * factor + own;
      centre[r] *= factor;
#pragma unroll
      for (int i = 0; i < kLoads; ++i)
#pragma unroll
        for (int e = 0; e < Cache::kElements; ++e) {
          out[i][e][2 * r] *= factor;
          out[i][e][2 * r + 1] *= factor;
        }
    }
  }
};

}  // namespace autoglm::kernels::cuda
