// The block walk: a pass sees one block at a time, with what flows into it in
// the original model and in the model compressed so far, side by side. Only
// the activations of one boundary per stream are kept in memory.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "autoglm/model/forward.h"

namespace autoglm {

/// Activations at a block border: one tensor [b, T, H] fp32 per batch.
using Stream = std::vector<at::Tensor>;
/// One per batch.
using Contexts = std::vector<AttentionContext>;

struct BlockVisit {
  std::int64_t layer;
  const Block& original;           // before this pass
  const Stream& original_input;    // what the original model feeds it
  const Stream& original_output;   // what it makes of that
  const Stream& compressed_input;  // what the model compressed so far feeds it
  const Contexts& original_contexts;
  const Contexts& compressed_contexts;
};

/// ids: [windows, T] int64 including prefix tokens. Walks the blocks in order;
/// `visit` returns the replacement block (or the same one). `model` gets the
/// replacements; `original_embedding` is its embedding before this pass;
/// `batch` windows are run at once. Final streams (after the
/// last block) are returned as {original, compressed}.
std::pair<Stream, Stream> walk_blocks(
    Model& model, const Weight& original_embedding, const at::Tensor& ids,
    std::int64_t batch, const std::function<Block(const BlockVisit&)>& visit);

}  // namespace autoglm
