#include "passes/pruning/reader_moments.h"

#include "autoglm/model/forward.h"

namespace autoglm {
namespace {

const Norm& norm_behind(const Block& block, Part part) {
  return part == Part::kAttention ? block.after_attention_norm
                                  : block.after_mlp_norm;
}

// Of what the next norm takes the size away from, token by token: the part's
// own output if a norm stands behind it, or the stream after the block.
at::Tensor inverse_energies(const Model& model, const BlockVisit& visit,
                            Part part, Site site) {
  const Block& block = visit.original;
  const bool attention = part == Part::kAttention;
  const bool own = norm_behind(block, part).gain.defined() &&
                   (attention || !block.is_mixture());
  const Linear& reader = attention ? block.attention.output : block.mlp.down;
  std::vector<at::Tensor> out;
  for (std::size_t b = 0; b < visit.original_input.size(); ++b) {
    const at::Tensor normed =
        own ? apply_linear(
                  site_input(model, block, visit.layer, visit.original_input[b],
                             visit.original_contexts[b], site),
                  reader.weight, reader.bias)
            : visit.original_output[b];
    out.push_back(normed.square()
                      .mean(-1)
                      .add(model.architecture.norm_epsilon)
                      .reciprocal());
  }
  const at::Tensor all = at::cat(out);
  return all / all.mean();
}

// The residual stream before the part's output is added, original minus
// compressed [b, T, H]; undefined where the part is not simply added. x, z:
// what the reader receives in either stream.
at::Tensor residual_drift(const Model& model, const BlockVisit& visit,
                          const Block& working, Part part, std::size_t batch,
                          const at::Tensor& x, const at::Tensor& z,
                          const at::Tensor& kept) {
  const auto common = [&](const at::Tensor& original) {
    return kept.defined() ? original.index_select(-1, kept) : original;
  };
  const bool attention = part == Part::kAttention;
  if (norm_behind(working, part).gain.defined() ||
      model.architecture.normed_residual)
    return {};
  if (attention)
    return common(visit.original_input[batch]) - visit.compressed_input[batch];
  // What the blocks return, less what their MLPs or shared experts add to it.
  const auto mlp = [](const Block& block, const at::Tensor& inputs) {
    const Linear& down =
        block.is_mixture() ? block.mixture.shared.down : block.mlp.down;
    return apply_linear(inputs, down.weight, down.bias);
  };
  AttentionContext context = visit.compressed_contexts[batch];
  return common(visit.original_output[batch] - mlp(visit.original, x)) -
         (block_forward(model, working, visit.layer,
                        visit.compressed_input[batch], context) -
          mlp(working, z));
}

}  // namespace

SplitMoments reader_moments(const Model& model, const BlockVisit& visit,
                            const Block& working, Part part,
                            const at::Tensor& tokens, const at::Tensor& kept) {
  const Site site = part == Part::kAttention ? Site::kOutput : Site::kDown;
  const auto inputs = [&](std::size_t i) {
    const at::Tensor x =
        site_input(model, visit.original, visit.layer, visit.original_input[i],
                   visit.original_contexts[i], site);
    const at::Tensor z =
        site_input(model, working, visit.layer, visit.compressed_input[i],
                   visit.compressed_contexts[i], site);
    const at::Tensor drift =
        residual_drift(model, visit, working, part, i, x, z, kept);
    if (!drift.defined()) return std::pair(x, z);
    return std::pair(at::cat({x, drift}, -1),
                     at::cat({z, at::zeros_like(drift)}, -1));
  };
  return split_moments(
      visit.original_input.size(), inputs,
      tokens.defined() ? tokens : inverse_energies(model, visit, part, site));
}

}  // namespace autoglm
