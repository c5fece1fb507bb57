#include <atomic>
#include <cstring>

#include "autoglm/kernels/cpu_stream_kernels.h"
#define AUTOGLM_VECTOR_BYTES 16
#include "kernels/cpu_stream_loops.h"

namespace autoglm::kernels::cpu {
namespace {

const StreamImplementation* scalar() {
  static const StreamImplementation value = stream_implementation("scalar");
  return &value;
}

bool runs_here(const StreamImplementation* implementation) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (implementation == avx512_stream())
    return implementation != nullptr && __builtin_cpu_supports("avx512f");
  if (implementation == avx2_stream())
    return implementation != nullptr && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma");
#endif
  return implementation != nullptr;
}

const StreamImplementation* best() {
  for (const StreamImplementation* one : {avx512_stream(), avx2_stream()})
    if (runs_here(one)) return one;
  return scalar();
}

std::atomic<const StreamImplementation*>& chosen() {
  static std::atomic<const StreamImplementation*> value = best();
  return value;
}

}  // namespace

void rms_norm(const NormArguments& arguments, std::int64_t begin,
              std::int64_t end) {
  chosen().load()->rms_norm(arguments, begin, end);
}

void silu_product(const SiluArguments& arguments, std::int64_t begin,
                  std::int64_t end) {
  chosen().load()->silu_product(arguments, begin, end);
}

void rotate_heads(const RotaryArguments& a, std::int64_t begin,
                  std::int64_t end) {
  const std::int64_t half = a.turned / 2;
  const std::int64_t step = a.interleaved ? 2 : 1;
  const std::int64_t other = a.interleaved ? 1 : half;
  for (std::int64_t at = begin; at < end; ++at) {
    const std::int64_t token = at % a.tokens;
    const std::int64_t head = at / a.tokens % a.heads;
    const std::int64_t batch = at / a.tokens / a.heads;
    const float* x = static_cast<const float*>(a.x) + batch * a.batch_stride +
                     head * a.head_stride + token * a.token_stride;
    float* y = static_cast<float*>(a.y) + at * a.size;
    const std::int64_t angles = batch * a.angle_batch_stride + token * half;
    const float* cosine = a.cosine + angles;
    const float* sine = a.sine + angles;
    for (std::int64_t i = 0; i < half; ++i) {
      const float first = x[i * step], second = x[i * step + other];
      y[i * step] = first * cosine[i] - second * sine[i];
      y[i * step + other] = second * cosine[i] + first * sine[i];
    }
    for (std::int64_t i = a.turned; i < a.size; ++i) y[i] = x[i];
  }
}

bool can_attend(const AttentionArguments& a) {
  return a.type == cuda::NumberType::kFloat32 && a.cache_bits == 0 &&
         a.size % 16 == 0 && a.groups > 0 && a.heads % a.groups == 0;
}

std::int64_t attention_parts(const AttentionArguments& a) {
  return a.batch * a.groups * ((a.tokens + kPartTokens - 1) / kPartTokens);
}

std::int64_t attention_workspace(std::int64_t batch, std::int64_t heads,
                                 std::int64_t tokens, std::int64_t size) {
  const std::int64_t runs = (tokens + kPartTokens - 1) / kPartTokens;
  return batch * heads * runs * (size + 2) *
         static_cast<std::int64_t>(sizeof(float));
}

void attend(const AttentionArguments& arguments, std::int64_t begin,
            std::int64_t end) {
  chosen().load()->attend(arguments, begin, end);
}

void merge_attention(const AttentionArguments& arguments, std::int64_t begin,
                     std::int64_t end) {
  chosen().load()->merge(arguments, begin, end);
}

bool can_attend_prompt(const PromptArguments& p) {
  return p.size % 16 == 0 && p.size > 0 && p.size <= kLongestHead &&
         p.groups > 0 && p.heads % p.groups == 0 && p.queries > 0 &&
         p.queries <= p.tokens;
}

std::int64_t prompt_tiles(const PromptArguments& p) {
  return p.batch * p.heads * ((p.queries + kTileRows - 1) / kTileRows);
}

void attend_prompt(const PromptArguments& arguments, std::int64_t begin,
                   std::int64_t end) {
  chosen().load()->attend_prompt(arguments, begin, end);
}

const char* stream_kernel() { return chosen().load()->name; }

bool force_stream_kernel(const char* name) {
  if (std::strcmp(name, "auto") == 0) {
    chosen() = best();
    return true;
  }
  for (const StreamImplementation* one :
       {scalar(), avx2_stream(), avx512_stream()}) {
    if (one == nullptr || std::strcmp(one->name, name) != 0) continue;
    if (!runs_here(one)) return false;
    chosen() = one;
    return true;
  }
  return false;
}

}  // namespace autoglm::kernels::cpu
