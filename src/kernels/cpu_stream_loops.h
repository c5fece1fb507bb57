// The loops of cpu_stream_kernels.h, compiled once per instruction set; see
// cpu_vectors.h for what may be included here.
#pragma once

#include "autoglm/kernels/cpu_stream_kernels.h"
#include "kernels/cpu_attention_loops.h"
#include "kernels/cpu_vectors.h"

namespace autoglm::kernels::cpu {

struct StreamImplementation {
  const char* name;
  void (*rms_norm)(const NormArguments&, std::int64_t, std::int64_t);
  void (*silu_product)(const SiluArguments&, std::int64_t, std::int64_t);
  void (*attend)(const AttentionArguments&, std::int64_t, std::int64_t);
  void (*merge)(const AttentionArguments&, std::int64_t, std::int64_t);
  void (*attend_prompt)(const PromptArguments&, std::int64_t, std::int64_t);
};

const StreamImplementation* avx512_stream();  // null: not compiled in
const StreamImplementation* avx2_stream();

namespace {  // every file has its own

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

constexpr StreamImplementation stream_implementation(const char* name) {
  return {name,         norm_rows,   silu_rows,
          attend_parts, merge_parts, attend_prompt_tiles};
}

}  // namespace
}  // namespace autoglm::kernels::cpu
