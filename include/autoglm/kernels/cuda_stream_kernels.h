// Kernels for NVIDIA GPUs on the residual stream: norms, activations,
// rotations, rounding to int8, attention of one new token. The same manners as
// autoglm/kernels/cuda_kernels.h.
#pragma once

#include <cstdint>

#include "autoglm/kernels/cuda_kernels.h"

namespace autoglm::kernels::cuda {

/// RMSNorm over the last dim, after an optional addition: with h = x + residual
/// (rounded to the type), y = gain * (h / sqrt(mean(h^2) + epsilon)), the
/// quotient rounded before the gain as the GLM family has it. All of `type`.
struct NormArguments {
  const void* x;         // [rows, size]
  const void* residual;  // [rows, size], or null: h = x
  void* sum;             // [rows, size], gets h; null without a residual
  const void* gain;      // [size]
  void* y;               // [rows, size]
  NumberType type;
  std::int64_t rows, size;
  float epsilon;
};
Status rms_norm(const NormArguments& arguments, Stream stream);

/// y = silu(gate) * up, silu rounded to the type first. Row r of gate and up
/// starts at r * stride elements, so that both may be halves of one matrix.
struct SiluArguments {
  const void* gate;
  const void* up;
  std::int64_t stride;
  void* y;  // [rows, size]
  NumberType type;
  std::int64_t rows, size;
};
Status silu_product(const SiluArguments& arguments, Stream stream);

/// Turns the first `turned` dims of every head by angles; the rest passes.
/// Interleaved: pairs (2i, 2i + 1); else (i, i + turned / 2). x: any strides in
/// elements, dims of a head one after the other; y [batch, heads, tokens, size]
/// may not overlap x. cosine, sine: fp32 [batch or 1, tokens, turned / 2].
struct RotaryArguments {
  const void* x;
  std::int64_t batch_stride, head_stride, token_stride;
  const float* cosine;
  const float* sine;
  std::int64_t angle_batch_stride;  // 0: the same angles for all
  void* y;
  NumberType type;
  std::int64_t batch, heads, tokens, size, turned;
  bool interleaved;
};
Status rotate_heads(const RotaryArguments& arguments, Stream stream);

/// Rounds vectors to whole numbers of -127 .. 127, symmetrically, half to even.
/// The step is max |x| / 127 (1 for a zero vector), or `given`.
struct RoundArguments {
  const void* x;  // [rows, size]
  NumberType type;
  const float* given;      // [1], or null: each vector has its own step
  std::int8_t* codes;      // [rows, size], or null
  std::uint16_t* numbers;  // [rows, size] the codes as bf16, or null
  float* steps;            // [rows]
  std::int64_t rows, size;
};
Status round_to_int8(const RoundArguments& arguments, Stream stream);

/// Attention of one new token of each sequence over a key/value cache, with
/// grouped queries: softmax(query * key^T * scale + bias) * value, the sums in
/// fp32. The cache is split along the tokens and merged by the log-sum-exp
/// (Dao et al. 2023, "Flash-Decoding"), always in the same order.
struct AttentionArguments {
  /// [batch, heads, size]; strides in elements, even.
  const void* query;
  std::int64_t query_batch_stride, query_head_stride;
  /// [batch, groups, tokens, size] in `type`; or coded, uint8 [batch, groups,
  /// tokens, size * cache_bits / 8 + 4]: codes (4 bits: the even element of two
  /// in the low half of the byte), then step and least number in fp16, number =
  /// code * step + least. Strides in elements, the same for both.
  const void* keys;
  const void* values;
  std::int64_t cache_batch_stride, cache_group_stride, cache_token_stride;
  int cache_bits;  // 0: not coded; 4, 8
  /// fp32 [batch, tokens] added to the scores, or null. A token of -infinity is
  /// not seen; with none seen the result is 0.
  const float* bias;
  std::int64_t bias_batch_stride;
  /// [batch]: tokens of each sequence, at most `tokens`; null: all.
  const std::int32_t* lengths;
  void* y;          // [batch, heads, size] of `type`
  NumberType type;  // bf16 or fp16
  std::int64_t batch, heads, groups, tokens;
  std::int64_t size;  // 64 or 128
  float scale;
  void* workspace;  // attention_workspace(...) bytes, aligned to 16
};
Status decode_attention(const AttentionArguments& arguments, Stream stream);

std::int64_t attention_workspace(std::int64_t batch, std::int64_t heads,
                                 std::int64_t groups, std::int64_t tokens,
                                 std::int64_t size);

}  // namespace autoglm::kernels::cuda
