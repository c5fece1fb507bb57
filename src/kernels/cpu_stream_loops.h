// The loops of cpu_stream_kernels.h, compiled once per instruction set. Nothing
// of the standard library with code of its own may be included here: the linker
// would keep one copy of it, perhaps the one for another processor.
#pragma once

#include <cstdint>

#include "autoglm/kernels/cpu_stream_kernels.h"

namespace autoglm::kernels::cpu {

/// Tokens of one part: its keys and values fit into the first-level cache.
constexpr std::int64_t kPartTokens = 64;

struct StreamImplementation {
  const char* name;
  void (*rms_norm)(const NormArguments&, std::int64_t, std::int64_t);
  void (*silu_product)(const SiluArguments&, std::int64_t, std::int64_t);
  void (*attend)(const AttentionArguments&, std::int64_t, std::int64_t);
  void (*merge)(const AttentionArguments&, std::int64_t, std::int64_t);
};

const StreamImplementation* avx512_stream();  // null: not compiled in
const StreamImplementation* avx2_stream();

namespace {  // every file has its own

// Vectors as wide as the registers of the file that includes this.
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

inline void norm_rows(const NormArguments& a, std::int64_t begin,
                      std::int64_t end) {
  const auto* gain = static_cast<const float*>(a.gain);
  const std::int64_t whole = a.size / kLanes * kLanes;
  for (std::int64_t r = begin; r < end; ++r) {
    const float* h = static_cast<const float*>(a.x) + r * a.size;
    float* y = static_cast<float*>(a.y) + r * a.size;
    if (a.residual != nullptr) {
      const float* residual =
          static_cast<const float*>(a.residual) + r * a.size;
      float* total = static_cast<float*>(a.sum) + r * a.size;
      for (std::int64_t i = 0; i < whole; i += kLanes)
        store(total + i, load(h + i) + load(residual + i));
      for (std::int64_t i = whole; i < a.size; ++i)
        total[i] = h[i] + residual[i];
      h = total;
    }
    Lanes squares = {}, others = {};
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= a.size; i += 2 * kLanes) {
      squares += load(h + i) * load(h + i);
      others += load(h + i + kLanes) * load(h + i + kLanes);
    }
    for (; i < whole; i += kLanes) squares += load(h + i) * load(h + i);
    float energy = sum(squares + others);
    for (; i < a.size; ++i) energy += h[i] * h[i];
    const float scale =
        1 / __builtin_sqrtf(energy / static_cast<float>(a.size) + a.epsilon);
    for (i = 0; i < whole; i += kLanes)
      store(y + i, load(gain + i) * (load(h + i) * scale));
    for (; i < a.size; ++i) y[i] = gain[i] * (h[i] * scale);
  }
}

inline void silu_rows(const SiluArguments& a, std::int64_t begin,
                      std::int64_t end) {
  for (std::int64_t r = begin; r < end; ++r) {
    const float* gate = static_cast<const float*>(a.gate) + r * a.stride;
    const float* up = static_cast<const float*>(a.up) + r * a.stride;
    float* y = static_cast<float*>(a.y) + r * a.size;
    std::int64_t i = 0;
    for (; i + kLanes <= a.size; i += kLanes) {
      const Lanes g = load(gate + i);
      store(y + i, g / (1.0F + exponential(-g)) * load(up + i));
    }
    for (; i < a.size; ++i)
      y[i] = gate[i] / (1 + exponential(-gate[i])) * up[i];
  }
}

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
  Lanes sums[Tokens][Heads] = {};
  for (std::int64_t i = 0; i < a.size; i += kLanes) {
    Lanes query[Heads];
#pragma GCC unroll 4
    for (int h = 0; h < Heads; ++h) query[h] = load(queries[h] + i);
#pragma GCC unroll 4
    for (int n = 0; n < Tokens; ++n) {
      const Lanes own = load(key + (t + n) * a.cache_token_stride + i);
#pragma GCC unroll 4
      for (int h = 0; h < Heads; ++h) sums[n][h] += own * query[h];
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < Tokens; ++n)
#pragma GCC unroll 4
    for (int h = 0; h < Heads; ++h)
      scores[h][t + n] =
          sum(sums[n][h]) * a.scale + (bias != nullptr ? bias[t + n] : 0);
}

// The values' sums, `Width` vectors of them from element `i` on.
template <int Heads, int Width>
inline void mix(const AttentionArguments& a, const float* values,
                std::int64_t tokens, std::int64_t i,
                const float (*weights)[kPartTokens], float* out) {
  Lanes sums[Heads][Width] = {};
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float* value = values + t * a.cache_token_stride + i;
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
  std::int64_t t = 0;
  for (; t + kTokensAtOnce <= tokens; t += kTokensAtOnce)
    score<Heads, kTokensAtOnce>(a, queries, keys, bias, t, scores);
  for (; t < tokens; ++t) score<Heads, 1>(a, queries, keys, bias, t, scores);
  for (; t < kPartTokens; ++t)
    for (int h = 0; h < Heads; ++h) scores[h][t] = -__builtin_inff();
  float* out = p.out + head * (a.size + 2);
  for (int h = 0; h < Heads; ++h) {
    Lanes most = load(scores[h]);
    for (t = kLanes; t < kPartTokens; t += kLanes) {
      const Lanes next = load(scores[h] + t);
      most = next > most ? next : most;
    }
    // Of nothing but unseen tokens all weights become 0.
    const float top = largest(most);
    const float from = top == -__builtin_inff() ? 0 : top;
    Lanes total = {};
    for (t = 0; t < kPartTokens; t += kLanes) {
      const Lanes weight = exponential(load(scores[h] + t) - from);
      store(scores[h] + t, weight);
      total += weight;
    }
    out[h * (a.size + 2) + a.size] = top;
    out[h * (a.size + 2) + a.size + 1] = sum(total);
  }
  std::int64_t i = 0;
  constexpr int kWidth = kVectorsAtOnce * kLanes;
  for (; i + kWidth <= a.size; i += kWidth)
    mix<Heads, kVectorsAtOnce>(a, values, tokens, i, scores, out);
  for (; i < a.size; i += kLanes)
    mix<Heads, 1>(a, values, tokens, i, scores, out);
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

inline StreamImplementation stream_implementation(const char* name) {
  return {name, norm_rows, silu_rows, attend_parts, merge_parts};
}

}  // namespace
}  // namespace autoglm::kernels::cpu
