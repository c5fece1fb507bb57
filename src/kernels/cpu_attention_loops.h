// Attention on the CPU, of one new token over a cache and of a prompt over
// itself; compiled once per instruction set (cpu_vectors.h).
#pragma once

#include "autoglm/kernels/cpu_stream_kernels.h"
#include "kernels/cpu_vectors.h"

namespace autoglm::kernels::cpu {

/// Tokens of one part: its keys and values fit into the first-level cache.
constexpr std::int64_t kPartTokens = 64;

namespace {  // every file has its own

// A part's results: for every query of the group the values' weighted sum
// [size], the greatest score, and the sum of the weights.
struct PartPlace {
  std::int64_t batch, group, first, last;  // tokens first .. last
  float* out;                              // [queries, size + 2]
};

inline PartPlace place(const AttentionArguments& a, std::int64_t part) {
  const std::int64_t runs = (a.tokens + kPartTokens - 1) / kPartTokens;
  PartPlace out;
  out.batch = part / runs / a.groups;
  out.group = part / runs % a.groups;
  out.first = part % runs * kPartTokens;
  const std::int64_t filled =
      a.lengths != nullptr ? a.lengths[out.batch] : a.tokens;
  out.last =
      out.first + kPartTokens < filled ? out.first + kPartTokens : filled;
  out.out = static_cast<float*>(a.workspace) +
            part * (a.heads / a.groups) * (a.size + 2);
  return out;
}

// Scores of `Tokens` keys, one after the other, for `Heads` queries. So many
// sums at once hide what one product waits for the one before it.
template <int Heads, int Tokens>
inline void score(const AttentionArguments& a, const float* const* queries,
                  const float* key, const float* bias, std::int64_t t,
                  float (*scores)[kPartTokens]) {
  Lanes total[Heads][Tokens] = {};
  for (std::int64_t i = 0; i < a.size; i += kLanes) {
    Lanes query[Heads];
#pragma GCC unroll 4
    for (int h = 0; h < Heads; ++h) query[h] = load(queries[h] + i);
#pragma GCC unroll 4
    for (int n = 0; n < Tokens; ++n) {
      const Lanes own = load(key + (t + n) * a.cache_token_stride + i);
#pragma GCC unroll 4
      for (int h = 0; h < Heads; ++h) total[h][n] += own * query[h];
    }
  }
#if AUTOGLM_VECTOR_BYTES == 64
  if constexpr (Heads == 4 && Tokens == 4) {
    const Lanes all = sums(total[0]);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      const int n = i % Tokens;
      scores[i / Tokens][t + n] =
          all[i] * a.scale + (bias != nullptr ? bias[t + n] : 0);
    }
    return;
  }
#endif
#pragma GCC unroll 4
  for (int h = 0; h < Heads; ++h)
#pragma GCC unroll 4
    for (int n = 0; n < Tokens; ++n)
      scores[h][t + n] =
          sum(total[h][n]) * a.scale + (bias != nullptr ? bias[t + n] : 0);
}

// The values' sums, `Width` vectors of them from element `i` on, added to what
// `out` holds times `keep`, or in its place.
template <int Heads, int Width>
inline void mix(const AttentionArguments& a, const float* values,
                std::int64_t stride, std::int64_t tokens, std::int64_t i,
                const float (*weights)[kPartTokens], const float* keep,
                float* out) {
  Lanes sums[Heads][Width] = {};
  if (keep != nullptr)
#pragma GCC unroll 4
    for (int h = 0; h < Heads; ++h)
#pragma GCC unroll 4
      for (int w = 0; w < Width; ++w)
        sums[h][w] = load(out + h * (a.size + 2) + i + w * kLanes) * keep[h];
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float* value = values + t * stride + i;
#pragma GCC unroll 4
    for (int w = 0; w < Width; ++w) {
      const Lanes own = load(value + w * kLanes);
#pragma GCC unroll 4
      for (int h = 0; h < Heads; ++h) sums[h][w] += own * weights[h][t];
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < Heads; ++h)
#pragma GCC unroll 4
    for (int w = 0; w < Width; ++w)
      store(out + h * (a.size + 2) + i + w * kLanes, sums[h][w]);
}

template <int Heads>
inline void mix_values(const AttentionArguments& a, const float* values,
                       std::int64_t stride, std::int64_t tokens,
                       const float (*weights)[kPartTokens], const float* keep,
                       float* out) {
  std::int64_t i = 0;
  constexpr int kWidth = kVectorsAtOnce * kLanes;
  for (; i + kWidth <= a.size; i += kWidth)
    mix<Heads, kVectorsAtOnce>(a, values, stride, tokens, i, weights, keep,
                               out);
  for (; i < a.size; i += kLanes)
    mix<Heads, 1>(a, values, stride, tokens, i, weights, keep, out);
}

template <int Heads>
inline void score_run(const AttentionArguments& a, const float* const* queries,
                      const float* keys, const float* bias, std::int64_t tokens,
                      float (*scores)[kPartTokens]) {
  std::int64_t t = 0;
  for (; t + kTokensAtOnce <= tokens; t += kTokensAtOnce)
    score<Heads, kTokensAtOnce>(a, queries, keys, bias, t, scores);
  for (; t < tokens; ++t) score<Heads, 1>(a, queries, keys, bias, t, scores);
  for (; t < kPartTokens; ++t)
    for (int h = 0; h < Heads; ++h) scores[h][t] = -__builtin_inff();
}

inline float greatest(const float* scores) {
  Lanes most = load(scores);
  for (std::int64_t t = kLanes; t < kPartTokens; t += kLanes) {
    const Lanes next = load(scores + t);
    most = next > most ? next : most;
  }
  return largest(most);
}

// e^(score - from) in the place of every score; their sum.
inline float weigh(float* scores, float from) {
  Lanes total = {};
  for (std::int64_t t = 0; t < kPartTokens; t += kLanes) {
    const Lanes weight = exponential(load(scores + t) - from);
    store(scores + t, weight);
    total += weight;
  }
  return sum(total);
}

// `Heads` queries of one group over one run of tokens.
template <int Heads>
void attend_heads(const AttentionArguments& a, const PartPlace& p,
                  std::int64_t head) {
  const std::int64_t tokens = p.last - p.first;
  const std::int64_t start = p.batch * a.cache_batch_stride +
                             p.group * a.cache_group_stride +
                             p.first * a.cache_token_stride;
  const float* keys = static_cast<const float*>(a.keys) + start;
  const float* values = static_cast<const float*>(a.values) + start;
  const float* queries[Heads];
  for (int h = 0; h < Heads; ++h)
    queries[h] =
        static_cast<const float*>(a.query) + p.batch * a.query_batch_stride +
        (p.group * (a.heads / a.groups) + head + h) * a.query_head_stride;
  const float* bias = a.bias != nullptr
                          ? a.bias + p.batch * a.bias_batch_stride + p.first
                          : nullptr;
  alignas(64) float scores[Heads][kPartTokens];
  score_run<Heads>(a, queries, keys, bias, tokens, scores);
  float* out = p.out + head * (a.size + 2);
  for (int h = 0; h < Heads; ++h) {
    // Of nothing but unseen tokens all weights become 0.
    const float top = greatest(scores[h]);
    const float total = weigh(scores[h], top == -__builtin_inff() ? 0 : top);
    out[h * (a.size + 2) + a.size] = top;
    out[h * (a.size + 2) + a.size + 1] = total;
  }
  mix_values<Heads>(a, values, a.cache_token_stride, tokens, scores, nullptr,
                    out);
}

inline void attend_parts(const AttentionArguments& a, std::int64_t begin,
                         std::int64_t end) {
  const std::int64_t queries = a.heads / a.groups;
  for (std::int64_t part = begin; part < end; ++part) {
    const PartPlace p = place(a, part);
    std::int64_t head = 0;
    if (p.first >= p.last) {
      for (; head < queries; ++head) {
        float* out = p.out + head * (a.size + 2);
        out[a.size] = -__builtin_inff();
        out[a.size + 1] = 0;
      }
      continue;
    }
    for (; head + 4 <= queries; head += 4) attend_heads<4>(a, p, head);
    if (head + 2 <= queries) attend_heads<2>(a, p, head), head += 2;
    if (head < queries) attend_heads<1>(a, p, head);
  }
}

inline void merge_parts(const AttentionArguments& a, std::int64_t begin,
                        std::int64_t end) {
  const std::int64_t queries = a.heads / a.groups;
  const std::int64_t runs = (a.tokens + kPartTokens - 1) / kPartTokens;
  const std::int64_t step = queries * (a.size + 2);  // of two runs
  for (std::int64_t q = begin; q < end; ++q) {
    const std::int64_t group = q / queries;  // of all sequences
    const float* parts = static_cast<const float*>(a.workspace) +
                         group * runs * step + q % queries * (a.size + 2);
    float top = -__builtin_inff();
    for (std::int64_t r = 0; r < runs; ++r) {
      const float own = parts[r * step + a.size];
      top = own > top ? own : top;
    }
    float* y = static_cast<float*>(a.y) + q * a.size;
    for (std::int64_t i = 0; i < a.size; i += kLanes) store(y + i, Lanes{});
    float total = 0;
    for (std::int64_t r = 0; r < runs; ++r) {
      const float* own = parts + r * step;
      if (!(own[a.size + 1] > 0)) continue;
      const float share = exponential(own[a.size] - top);
      total += share * own[a.size + 1];
      for (std::int64_t i = 0; i < a.size; i += kLanes)
        store(y + i, load(y + i) + load(own + i) * share);
    }
    if (!(total > 0)) continue;
    const float scale = 1 / total;
    for (std::int64_t i = 0; i < a.size; i += kLanes)
      store(y + i, load(y + i) * scale);
  }
}

// Rows of a prompt whose sums are held at once.
constexpr std::int64_t kTileRows = 64;
constexpr std::int64_t kLongestHead = 256;

// `Rows` neighbouring queries of a prompt, over one run of `tokens` from token
// `first` on; state: their sums [size], greatest score and sum of weights so
// far, as in a part. Query r sees `seen` + r of the run's tokens.
template <int Rows>
void prompt_rows(const AttentionArguments& a, const float* query,
                 std::int64_t query_stride, const float* keys,
                 const float* values, std::int64_t value_stride,
                 std::int64_t tokens, std::int64_t seen, float* state) {
  const float* queries[Rows];
  for (int r = 0; r < Rows; ++r) queries[r] = query + r * query_stride;
  const std::int64_t used = seen + Rows - 1 < tokens ? seen + Rows - 1 : tokens;
  alignas(64) float scores[Rows][kPartTokens];
  score_run<Rows>(a, queries, keys, nullptr, used, scores);
  float keep[Rows];
  for (int r = 0; r < Rows; ++r) {
    for (std::int64_t t = seen + r < 0 ? 0 : seen + r; t < used; ++t)
      scores[r][t] = -__builtin_inff();
    float* own = state + r * (a.size + 2) + a.size;
    const float run = greatest(scores[r]);
    const float top = run > own[0] ? run : own[0];
    const float from = top == -__builtin_inff() ? 0 : top;
    keep[r] = exponential(own[0] - from);
    own[1] = own[1] * keep[r] + weigh(scores[r], from);
    own[0] = top;
  }
  mix_values<Rows>(a, values, value_stride, used, scores, keep, state);
}

inline void prompt_tile(const PromptArguments& p, std::int64_t tile) {
  const std::int64_t tiles = (p.queries + kTileRows - 1) / kTileRows;
  const std::int64_t head = tile / tiles % p.heads;
  const std::int64_t batch = tile / tiles / p.heads;
  const std::int64_t first = tile % tiles * kTileRows;
  const std::int64_t rows =
      first + kTileRows < p.queries ? kTileRows : p.queries - first;
  const std::int64_t past = p.tokens - p.queries;  // before the first query
  const float* query = p.query + batch * p.query_strides[0] +
                       head * p.query_strides[1] + first * p.query_strides[2];
  const std::int64_t group = head / (p.heads / p.groups);
  const float* keys =
      p.keys + batch * p.key_strides[0] + group * p.key_strides[1];
  const float* values =
      p.values + batch * p.value_strides[0] + group * p.value_strides[1];
  AttentionArguments a = {};
  a.size = p.size;
  a.scale = p.scale;
  a.cache_token_stride = p.key_strides[2];
  alignas(64) float states[kTileRows * (kLongestHead + 2)];
  for (std::int64_t r = 0; r < rows; ++r) {
    float* state = states + r * (p.size + 2);
    for (std::int64_t i = 0; i < p.size; ++i) state[i] = 0;
    state[p.size] = -__builtin_inff();
    state[p.size + 1] = 0;
  }
  for (std::int64_t start = 0; start <= past + first + rows - 1;
       start += kPartTokens) {
    const std::int64_t tokens =
        start + kPartTokens < p.tokens ? kPartTokens : p.tokens - start;
    const float* run_keys = keys + start * p.key_strides[2];
    const float* run_values = values + start * p.value_strides[2];
    for (std::int64_t r = 0; r < rows;) {
      const std::int64_t seen = past + first + r + 1 - start;
      const float* own = query + r * p.query_strides[2];
      float* state = states + r * (p.size + 2);
      if (r + 4 <= rows) {
        if (seen + 3 > 0)
          prompt_rows<4>(a, own, p.query_strides[2], run_keys, run_values,
                         p.value_strides[2], tokens, seen, state);
        r += 4;
      } else {
        if (seen > 0)
          prompt_rows<1>(a, own, p.query_strides[2], run_keys, run_values,
                         p.value_strides[2], tokens, seen, state);
        r += 1;
      }
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* state = states + r * (p.size + 2);
    float* y =
        p.y + ((batch * p.heads + head) * p.queries + first + r) * p.size;
    const float scale = 1 / state[p.size + 1];
    for (std::int64_t i = 0; i < p.size; i += kLanes)
      store(y + i, load(state + i) * scale);
  }
}

inline void attend_prompt_tiles(const PromptArguments& p, std::int64_t begin,
                                std::int64_t end) {
  for (std::int64_t tile = begin; tile < end; ++tile) prompt_tile(p, tile);
}

}  // namespace
}  // namespace autoglm::kernels::cpu
