// Kernels for the CPU on the residual stream: the norm, the gated activation,
// the rotation and the attention of one new token, in fp32. They take the same
// arguments as those for GPUs (autoglm/kernels/cuda_stream_kernels.h), fp32
// only, and work on a range, so that callers bring the threads. The order of
// sums does not depend on the range or on the number of threads, only on the
// width of the registers. There are versions for AVX-512, AVX2 and any
// processor; the best one is chosen at run time.
#pragma once

#include <cstdint>

#include "autoglm/kernels/cuda_stream_kernels.h"

namespace autoglm::kernels::cpu {

using cuda::AttentionArguments;
using cuda::NormArguments;
using cuda::RotaryArguments;
using cuda::SiluArguments;

/// Rows begin .. end.
void rms_norm(const NormArguments& arguments, std::int64_t begin,
              std::int64_t end);

/// Rows begin .. end. exp is good to 2 units in the last place.
void silu_product(const SiluArguments& arguments, std::int64_t begin,
                  std::int64_t end);

/// Heads begin .. end of batch * heads * tokens, in this order.
void rotate_heads(const RotaryArguments& arguments, std::int64_t begin,
                  std::int64_t end);

/// True for fp32 without codes, heads of a multiple of 16 and groups that
/// divide the query heads.
bool can_attend(const AttentionArguments& arguments);

/// Attention in two steps: parts, each a run of tokens of one group's cache
/// for all queries of that group, then what each query's parts make together.
std::int64_t attention_parts(const AttentionArguments& arguments);
std::int64_t attention_workspace(std::int64_t batch, std::int64_t heads,
                                 std::int64_t tokens, std::int64_t size);
/// Parts begin .. end into the workspace.
void attend(const AttentionArguments& arguments, std::int64_t begin,
            std::int64_t end);
/// Queries begin .. end of batch * heads, once all parts are there.
void merge_attention(const AttentionArguments& arguments, std::int64_t begin,
                     std::int64_t end);

/// Attention of the last `queries` of `tokens` tokens, each over itself and all
/// before it: softmax(query * key^T * scale) * value, with a running maximum
/// (Dao et al. 2022, "FlashAttention"). Strides in elements, of sequence, head
/// and token; the dims of a head lie one after the other.
struct PromptArguments {
  const float* query;  // [batch, heads, queries, size]
  const float* keys;   // [batch, groups, tokens, size]
  const float* values;
  std::int64_t query_strides[3], key_strides[3], value_strides[3];
  float* y;  // [batch, heads, queries, size], contiguous
  std::int64_t batch, heads, groups, queries, tokens;
  std::int64_t size;  // a multiple of 16, at most 256
  float scale;
};
bool can_attend_prompt(const PromptArguments& arguments);
/// Pieces of 64 queries of one head that can be computed by themselves.
std::int64_t prompt_tiles(const PromptArguments& arguments);
void attend_prompt(const PromptArguments& arguments, std::int64_t begin,
                   std::int64_t end);

/// "avx512", "avx2" or "scalar".
const char* stream_kernel();
/// For tests: one of these or "auto"; false if it does not run here.
bool force_stream_kernel(const char* name);

}  // namespace autoglm::kernels::cpu
