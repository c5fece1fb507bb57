// The kernels of decode_attention; see attention.cuh.
#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/linear.cuh"

namespace autoglm::kernels::cuda {

/// The lane's share of 16 tokens: for scores, tokens g of both halves; for
/// values, tokens 2t and 2t + 1 of both halves.
template <class Cache, int kSize>
struct CachedTokens {
  static constexpr int kKeyLoads = kSize / (4 * Cache::kElements);
  static constexpr int kValueLoads = kSize / (8 * Cache::kElements);
  typename Cache::Word key[2][kKeyLoads];
  typename Cache::Word value[2][2][kValueLoads];
  Ends key_ends[2][2], value_ends[2][2];

  /// Tokens [begin, end) of the head that starts at `head`.
  __device__ __forceinline__ void load(const AttentionArguments& a,
                                       std::int64_t head, int begin, int end) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = begin + 8 * half + g;
      const std::int64_t at = head + token * a.cache_token_stride;
#pragma unroll
      for (int i = 0; i < kKeyLoads; ++i)
        key[half][i] = token < end ? Cache::load(a.keys, at,
                                                 (4 * i + t) * Cache::kElements)
                                   : Cache::nothing();
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int seen = begin + 8 * half + 2 * t + j;
        const std::int64_t from = head + seen * a.cache_token_stride;
        key_ends[half][j] = value_ends[half][j] = {0, 0};
        if (seen < end) {
          key_ends[half][j] = load_ends<Cache>(a.keys, from, kSize);
          value_ends[half][j] = load_ends<Cache>(a.values, from, kSize);
        }
#pragma unroll
        for (int i = 0; i < kValueLoads; ++i)
          value[half][j][i] =
              seen < end
                  ? Cache::load(a.values, from, (8 * i + g) * Cache::kElements)
                  : Cache::nothing();
      }
    }
  }
};

/// Scores [half][row g: tokens 2t, 2t + 1; row g + 8: the same], times log2 e.
template <class Cache, class Number, int kSize>
__device__ __forceinline__ void find_scores(
    const AttentionArguments& a, const CachedTokens<Cache, kSize>& tokens,
    const Queries<Cache, kSize>& queries, const float* bias, int begin, int end,
    float (&score)[2][4]) {
  const int t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < Queries<Cache, kSize>::kLoads; ++i)
#pragma unroll
      for (int j = 0; j < Queries<Cache, kSize>::kSteps; ++j)
        multiply_add(Number(), sum, queries.a[i][j],
                     Cache::pair(tokens.key[half][i], 2 * j),
                     Cache::pair(tokens.key[half][i], 2 * j + 1));
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int token = begin + 8 * half + 2 * t + k % 2;
      float s = sum[k];
      if constexpr (Cache::kCoded) {
        const Ends& ends = tokens.key_ends[half][k % 2];
        s = s * ends.step + queries.sum[k / 2] * ends.centre;
      }
      s *= a.scale;
      if (bias != nullptr && token < end) s += bias[token];
      score[half][k] = token < end ? s * kLog2E : as_float(0xff800000u);
    }
  }
}

/// out += probabilities * values.
template <class Cache, class Number, int kSize>
__device__ __forceinline__ void add_values(
    const CachedTokens<Cache, kSize>& tokens, const float (&score)[2][4],
    Softmax<Cache, kSize>& softmax) {
  std::uint32_t p[4];
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float first = score[half][2 * r], second = score[half][2 * r + 1];
      if constexpr (Cache::kCoded) {
        const Ends(&ends)[2] = tokens.value_ends[half];
        softmax.centre[r] += first * ends[0].centre + second * ends[1].centre;
        first *= ends[0].step;
        second *= ends[1].step;
      }
      p[2 * half + r] = Number::pair(first, second);
    }
#pragma unroll
  for (int i = 0; i < Softmax<Cache, kSize>::kLoads; ++i)
#pragma unroll
    for (int q = 0; q < Cache::kElements / 2; ++q) {
      std::uint32_t numbers[2][2];  // pair q of the four tokens
#pragma unroll
      for (int n = 0; n < 4; ++n)
        numbers[n / 2][n % 2] = Cache::pair(tokens.value[n / 2][n % 2][i], q);
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        // The same dim of two tokens side by side.
        const std::uint32_t chosen = part == 0 ? 0x5410 : 0x7632;
        multiply_add(Number(), softmax.out[i][Cache::element(q, part)], p,
                     choose_bytes(numbers[0][0], numbers[0][1], chosen),
                     choose_bytes(numbers[1][0], numbers[1][1], chosen));
      }
    }
}

/// Shared memory of a block: [warp][query] maximum, sum; [warp][query][size].
template <int kSize>
constexpr std::size_t attention_shared_bytes() {
  return kAttentionWarps * kQueries * (kSize + 2) * sizeof(float);
}

/// What the warp has, into shared memory.
template <class Cache, int kSize>
__device__ void hand_over(const Softmax<Cache, kSize>& softmax, float* shared) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = warp * kQueries + lane / 4 + 8 * r;
    const float sum = quad_sum(softmax.sum[r]);
    const float centre = quad_sum(softmax.centre[r]);
    if (lane % 4 == 0) {
      shared[2 * row] = softmax.most[r];
      shared[2 * row + 1] = sum;
    }
    float* out = shared + 2 * kAttentionWarps * kQueries + row * kSize;
#pragma unroll
    for (int i = 0; i < Softmax<Cache, kSize>::kLoads; ++i)
#pragma unroll
      for (int e = 0; e < Cache::kElements; ++e)
#pragma unroll
        for (int c = 0; c < 2; ++c)
          out[(8 * i + 2 * (lane % 4) + c) * Cache::kElements + e] =
              softmax.out[i][e][2 * r + c] + centre;
  }
}

/// Merges `count` partial results: maxima and sums at ends[n * end_stride],
/// numbers at values[n * value_stride]. Returns the number relative to `most`.
struct Merged {
  float most, sum, value;
};
__device__ __forceinline__ Merged merge(const float* ends,
                                        std::int64_t end_stride,
                                        const float* values,
                                        std::int64_t value_stride, int count) {
  Merged m = {as_float(0xff800000u), 0, 0};
  for (int n = 0; n < count; ++n)
    m.most = maximum(m.most, ends[n * end_stride]);
  const float base = m.most == as_float(0xff800000u) ? 0.0f : m.most;
  for (int n = 0; n < count; ++n) {
    const float factor = exp2f(ends[n * end_stride] - base);
    m.sum += factor * ends[n * end_stride + 1];
    m.value += factor * values[n * value_stride];
  }
  return m;
}

/// Grid: splits, groups times tiles of queries, batch.
template <class Cache, class Number, int kSize>
__global__ void __launch_bounds__(kAttentionWarps * 32, 2)
    attention_kernel(const AttentionTask task) {
  const AttentionArguments& a = task.a;
  auto* shared = dynamic_shared<float>();
  const int group = static_cast<int>(blockIdx.y) / task.query_tiles;
  const int tile = static_cast<int>(blockIdx.y) % task.query_tiles;
  const std::int64_t batch = blockIdx.z;
  const int first_head = group * task.queries_per_group + tile * kQueries;
  const int left = task.queries_per_group - tile * kQueries;
  const int queries_here = left < kQueries ? left : kQueries;
  const int length =
      a.lengths != nullptr ? a.lengths[batch] : static_cast<int>(a.tokens);
  const int begin = static_cast<int>(blockIdx.x) * task.split_tokens;
  const int end =
      begin + task.split_tokens < length ? begin + task.split_tokens : length;
  const std::int64_t head =
      batch * a.cache_batch_stride + group * a.cache_group_stride;
  const float* bias =
      a.bias != nullptr ? a.bias + batch * a.bias_batch_stride : nullptr;

  Queries<Cache, kSize> queries;
  queries.template load<Number>(task, batch, first_head, queries_here);
  Softmax<Cache, kSize> softmax;
  softmax.clear();
  const int warp = static_cast<int>(threadIdx.x / 32);
  for (int first = begin + warp * kStepTokens; first < end;
       first += kAttentionWarps * kStepTokens) {
    CachedTokens<Cache, kSize> tokens;
    tokens.load(a, head, first, end);
    float score[2][4];
    find_scores<Cache, Number, kSize>(a, tokens, queries, bias, first, end,
                                      score);
    softmax.absorb(score);
    add_values<Cache, Number, kSize>(tokens, score, softmax);
  }
  hand_over<Cache, kSize>(softmax, shared);
  __syncthreads();

  const float* values = shared + 2 * kAttentionWarps * kQueries;
  for (int i = static_cast<int>(threadIdx.x); i < queries_here * kSize;
       i += kAttentionWarps * 32) {
    const int row = i / kSize, d = i % kSize;
    const Merged m = merge(shared + 2 * row, 2 * kQueries, values + i,
                           kQueries * kSize, kAttentionWarps);
    const std::int64_t at = batch * a.heads + first_head + row;
    if (task.partial == nullptr) {
      put_number(a.y, a.type, at * kSize + d, m.sum > 0 ? m.value / m.sum : 0);
      continue;
    }
    float* out = task.partial + (at * task.splits + blockIdx.x) * (kSize + 2);
    out[2 + d] = m.value;
    if (d == 0) {
      out[0] = m.most;
      out[1] = m.sum;
    }
  }
}

}  // namespace autoglm::kernels::cuda
