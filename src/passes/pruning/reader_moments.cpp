#include "passes/pruning/reader_moments.h"

#include "autoglm/model/forward.h"

namespace autoglm {
namespace {

const Norm& norm_behind(const Block& block, Part part) {
  return part == Part::kAttention ? block.after_attention_norm
                                  : block.after_mlp_norm;
}

at::Tensor inverse_energies(const Model& model, const BlockVisit& visit,
                            Part part, Site site) {
  const Block& block = visit.original;
  const bool attention = part == Part::kAttention;
  if (!norm_behind(block, part).gain.defined() ||
      (!attention && block.is_mixture()))
    return {};
  const Linear& reader = attention ? block.attention.output : block.mlp.down;
  std::vector<at::Tensor> out;
  for (std::size_t b = 0; b < visit.original_input.size(); ++b) {
    const at::Tensor x =
        site_input(model, block, visit.layer, visit.original_input[b],
                   visit.original_contexts[b], site);
    out.push_back(apply_linear(x, reader.weight, reader.bias)
                      .square()
                      .mean(-1)
                      .add(model.architecture.norm_epsilon)
                      .reciprocal());
  }
  const at::Tensor all = at::cat(out);
  return all / all.mean();
}

// What the block returns if its MLP adds nothing.
at::Tensor without_mlp(const Model& model, Block block, std::int64_t layer,
                       const at::Tensor& x, AttentionContext context) {
  block.mlp.down.weight =
      DenseWeight{at::zeros_like(to_dense(block.mlp.down.weight, at::kFloat))};
  return block_forward(model, block, layer, x, context);
}

// The residual stream before the part's output is added, original minus
// compressed [b, T, H]; undefined where the part is not simply added.
at::Tensor residual_drift(const Model& model, const BlockVisit& visit,
                          const Block& working, Part part, std::size_t batch) {
  const bool attention = part == Part::kAttention;
  if (norm_behind(working, part).gain.defined() ||
      model.architecture.normed_residual ||
      (!attention && working.is_mixture()))
    return {};
  if (attention)
    return visit.original_input[batch] - visit.compressed_input[batch];
  return without_mlp(model, visit.original, visit.layer,
                     visit.original_input[batch],
                     visit.original_contexts[batch]) -
         without_mlp(model, working, visit.layer, visit.compressed_input[batch],
                     visit.compressed_contexts[batch]);
}

}  // namespace

SplitMoments reader_moments(const Model& model, const BlockVisit& visit,
                            const Block& working, Part part,
                            const at::Tensor& tokens) {
  const Site site = part == Part::kAttention ? Site::kOutput : Site::kDown;
  const auto inputs = [&](std::size_t i) {
    const at::Tensor x =
        site_input(model, visit.original, visit.layer, visit.original_input[i],
                   visit.original_contexts[i], site);
    const at::Tensor z =
        site_input(model, working, visit.layer, visit.compressed_input[i],
                   visit.compressed_contexts[i], site);
    const at::Tensor drift = residual_drift(model, visit, working, part, i);
    if (!drift.defined()) return std::pair(x, z);
    return std::pair(at::cat({x, drift}, -1),
                     at::cat({z, at::zeros_like(drift)}, -1));
  };
  return split_moments(
      visit.original_input.size(), inputs,
      tokens.defined() ? tokens : inverse_energies(model, visit, part, site));
}

}  // namespace autoglm
