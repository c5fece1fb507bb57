#include "autoglm/model/walk.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"

namespace autoglm {
namespace {

bool same(const at::Tensor& a, const at::Tensor& b) { return a.is_same(b); }

bool same(const Weight& a, const Weight& b) {
  if (a.index() != b.index()) return false;
  if (const auto* dense = std::get_if<DenseWeight>(&a))
    return same(dense->value, std::get<DenseWeight>(b).value);
  const auto& x = std::get<QuantizedWeight>(a);
  const auto& y = std::get<QuantizedWeight>(b);
  return same(x.codes, y.codes) && same(x.scales, y.scales) &&
         same(x.zeros, y.zeros);
}

bool same(const Linear& a, const Linear& b) {
  return same(a.weight, b.weight) && same(a.bias, b.bias);
}

// The same handles, so the same numbers: nothing was replaced.
bool same(const Block& a, const Block& b) {
  return same(a.input_norm, b.input_norm) &&
         same(a.after_attention_norm, b.after_attention_norm) &&
         same(a.middle_norm, b.middle_norm) &&
         same(a.after_mlp_norm, b.after_mlp_norm) &&
         same(a.attention.query, b.attention.query) &&
         same(a.attention.key, b.attention.key) &&
         same(a.attention.value, b.attention.value) &&
         same(a.attention.output, b.attention.output) &&
         same(a.mlp.gate_up, b.mlp.gate_up) && same(a.mlp.down, b.mlp.down);
}

// One block over a stream.
Stream run_block(const Model& model, const Block& block, std::int64_t layer,
                 const Stream& stream,
                 const std::vector<AttentionContext>& contexts) {
  AUTOGLM_ENSURE(stream.size() == contexts.size());
  Stream out;
  for (std::size_t i = 0; i < stream.size(); ++i) {
    check_interrupted();
    out.push_back(block_forward(model, block, layer, stream[i], contexts[i]));
  }
  return out;
}

}  // namespace

std::pair<Stream, Stream> walk_blocks(
    Model& model, const Weight& original_embedding, const at::Tensor& ids,
    std::int64_t batch, const std::function<Block(const BlockVisit&)>& visit) {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(ids.dim() == 2 && batch > 0);
  // While nothing has changed yet, one stream serves as both.
  bool one_stream = same(model.embedding, original_embedding);
  Stream original, compressed;
  std::vector<AttentionContext> contexts;
  for (std::int64_t at = 0; at < ids.size(0); at += batch) {
    const at::Tensor part =
        ids.narrow(0, at, std::min(batch, ids.size(0) - at));
    contexts.push_back(attention_context(model, part));
    compressed.push_back(embed(model, part, at::kFloat));
    original.push_back(one_stream
                           ? compressed.back()
                           : select_rows(original_embedding, part, at::kFloat));
  }
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    const Block before = model.blocks[i];
    const BlockVisit visited = {layer, before, original, compressed, contexts};
    const Block after = visit(visited);
    original = run_block(model, before, layer, original, contexts);
    if (one_stream && same(before, after)) {
      compressed = original;
    } else {
      one_stream = false;
      compressed = run_block(model, after, layer, compressed, contexts);
    }
    model.blocks[i] = after;
  }
  return {std::move(original), std::move(compressed)};
}

}  // namespace autoglm
