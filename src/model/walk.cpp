#include "autoglm/model/walk.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/model/block_parts.h"

namespace autoglm {
namespace {

bool same(const at::Tensor& a, const at::Tensor& b) { return a.is_same(b); }

bool same(const Weight& a, const Weight& b) {
  const std::vector<at::Tensor> x = tensors(a), y = tensors(b);
  return a.index() == b.index() &&
         activations(a).quantized == activations(b).quantized &&
         std::equal(x.begin(), x.end(), y.begin(), y.end(),
                    [](const auto& p, const auto& q) { return same(p, q); });
}

bool same(const Linear& a, const Linear& b) {
  return same(a.weight, b.weight) && same(a.bias, b.bias);
}

// Handles of everything in a block, in order.
std::pair<std::vector<Linear>, std::vector<at::Tensor>> handles(
    const Block& block) {
  std::pair<std::vector<Linear>, std::vector<at::Tensor>> out;
  visit_block(
      block,
      [&](const std::string&, const Linear& part) {
        out.first.push_back(part);
      },
      [&](const std::string&, const at::Tensor& part) {
        out.second.push_back(part);
      });
  return out;
}

// The same handles, so the same numbers: nothing was replaced.
bool same(const Block& a, const Block& b) {
  const auto equal = [](const auto& x, const auto& y) { return same(x, y); };
  const auto [linears, tensors] = handles(a);
  const auto [other_linears, other_tensors] = handles(b);
  return std::equal(linears.begin(), linears.end(), other_linears.begin(),
                    other_linears.end(), equal) &&
         std::equal(tensors.begin(), tensors.end(), other_tensors.begin(),
                    other_tensors.end(), equal);
}

// One block over a stream.
Stream run_block(const Model& model, const Block& block, std::int64_t layer,
                 const Stream& stream, Contexts& contexts) {
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
  Contexts original_contexts, contexts;
  for (std::int64_t at = 0; at < ids.size(0); at += batch) {
    const at::Tensor part =
        ids.narrow(0, at, std::min(batch, ids.size(0) - at));
    contexts.push_back(attention_context(model, part));
    original_contexts.push_back(attention_context(model, part));
    compressed.push_back(
        embed(model, model.embedding, part, contexts.back(), at::kFloat));
    original.push_back(one_stream
                           ? compressed.back()
                           : embed(model, original_embedding, part,
                                   original_contexts.back(), at::kFloat));
  }
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    const Block before = model.blocks[i];
    Stream output =
        run_block(model, before, layer, original, original_contexts);
    const Block after = visit({layer, before, original, output, compressed,
                               original_contexts, contexts});
    original = std::move(output);
    if (one_stream && same(before, after)) {
      compressed = original;
      for (std::size_t b = 0; b < contexts.size(); ++b)
        contexts[b].selection = original_contexts[b].selection;
    } else {
      one_stream = false;
      compressed = run_block(model, after, layer, compressed, contexts);
    }
    model.blocks[i] = after;
  }
  return {std::move(original), std::move(compressed)};
}

}  // namespace autoglm
