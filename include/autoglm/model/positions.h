// Where tokens stand and what each may see: rotations, masks, and what a
// key/value cache remembers of both.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

/// Keys and values of the tokens seen so far, per layer [B, G, T, D]; with
/// Architecture::kv_cache_bits uint8 [B, G, T, bytes of a head], codes and
/// their range.
struct KvCache {
  std::vector<at::Tensor> keys;
  std::vector<at::Tensor> values;
  std::vector<at::Tensor> index_keys;  // [B, 1, T, size], sparse attention
  at::Tensor mask;     // [B, T] bool of all cached tokens, or undefined: real
  at::Tensor context;  // [B, T] bool: tokens before the blank's start
  at::Tensor blank_start, blank_at;  // [B] int64, two-dimensional positions
  /// Tokens to make room for at once; 0: the storage grows as it fills.
  std::int64_t expected = 0;
  /// Of recorded steps (model/decoder.h), where keys and values are whole
  /// buffers of T places: the place of the next token, int64 [1], and how many
  /// of each sequence are filled with it, int32 [B]. Undefined: all T are.
  at::Tensor slot, filled;
  /// Tokens seen; as the first block with an attention has them.
  std::int64_t length() const {
    for (const at::Tensor& own : keys)
      if (own.defined()) return own.size(2);
    return 0;
  }
};

/// What all blocks of one forward call share.
struct AttentionContext {
  at::Tensor positions;        // [B, T] int64 (B may be 1)
  at::Tensor block_positions;  // the same, where positions are 2-D
  at::Tensor cosine;           // [B, T, angles] fp32
  at::Tensor sine;
  at::Tensor bias;  // additive mask [B, 1, T, T_all] or undefined: causal
  /// Additive [B, 1, T, T_all]: what the last indexer selected; undefined: all.
  at::Tensor selection;
  KvCache* cache = nullptr;
  /// Called with the name of every part of the work as it is done; for clocks.
  std::function<void(const char*)> on_part = {};

  void done(const char* part) const {
    if (on_part) on_part(part);
  }
};

/// ids: [B, T] int64. mask: [B, T] (1 real, 0 padding), [B, 1, T, T] (1 may be
/// seen; no cache), or undefined. positions: [B, T], or [B, 2, T] for families
/// with two-dimensional ones, or undefined: counted from the mask and, where a
/// prompt's blank is known (Architecture::blank), from the blank and the start
/// token, which has to be in the cache's first call; a row without a start
/// token, or with given positions that fill no blank, is causal.
/// Throws kInput for a position beyond a learned table.
AttentionContext attention_context(const Model& model, const at::Tensor& ids,
                                   const at::Tensor& mask = {},
                                   const at::Tensor& positions = {},
                                   KvCache* cache = nullptr);

/// Sets the context's angles from its positions.
void turn_positions(const Architecture& architecture,
                    AttentionContext& context);

/// Additive mask [B, 1, T, T_all] from seen [B or 1, T_all] bool: a token sees
/// the real tokens up to itself, and of `context` (may be undefined) all. A
/// padding token sees itself, so that its row stays finite.
at::Tensor additive_mask(const at::Tensor& real, const at::Tensor& context,
                         std::int64_t tokens);

/// x [B, heads, T, R]: turns all R dims by the context's angles.
at::Tensor rotate(const at::Tensor& x, const AttentionContext& context,
                  Rotary rotary);

}  // namespace autoglm
