#include "autoglm/kernels/cpu_stream_kernels.h"
#include "kernels/choice.h"
#include "kernels/cpu_features.h"
#define AUTOGLM_VECTOR_BYTES 16
#include "kernels/cpu_stream_loops.h"

namespace autoglm::kernels::cpu {
namespace {

const StreamImplementation* scalar() {
  static constexpr StreamImplementation value = stream_implementation("scalar");
  return &value;
}

Choice<StreamImplementation>& chosen() {
  static Choice<StreamImplementation> value = {{avx512_stream(), has_avx512()},
                                               {avx2_stream(), has_avx2()},
                                               {scalar(), true}};
  return value;
}

}  // namespace

void rms_norm(const NormArguments& arguments, std::int64_t begin,
              std::int64_t end) {
  chosen()->rms_norm(arguments, begin, end);
}

void silu_product(const SiluArguments& arguments, std::int64_t begin,
                  std::int64_t end) {
  chosen()->silu_product(arguments, begin, end);
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
  chosen()->attend(arguments, begin, end);
}

void merge_attention(const AttentionArguments& arguments, std::int64_t begin,
                     std::int64_t end) {
  chosen()->merge(arguments, begin, end);
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
  chosen()->attend_prompt(arguments, begin, end);
}

const char* stream_kernel() { return chosen()->name; }

bool force_stream_kernel(const char* name) { return chosen().force(name); }

}  // namespace autoglm::kernels::cpu
