#include "passes/expert_inputs.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/interrupt.h"

namespace autoglm {
namespace {

// The last tenth of the rows judges, the others fit.
SplitMoments split_rows(const at::Tensor& x, const at::Tensor& z) {
  const std::int64_t held_out = std::max<std::int64_t>(1, z.size(0) / 10);
  const std::int64_t fitted = z.size(0) - held_out;
  const auto add = [&](Moments& moments, std::int64_t first,
                       std::int64_t count) {
    moments.add(x.defined() ? x.narrow(0, first, count) : at::Tensor(),
                z.narrow(0, first, count));
  };
  SplitMoments out;
  add(out.fit, 0, fitted);
  add(out.held_out, fitted, held_out);
  return out;
}

}  // namespace

ExpertInputs::ExpertInputs(const Model& model, const BlockVisit& visit,
                           const Block& working, Streams streams)
    : architecture_(model.architecture) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> original, compressed;
  for (std::size_t i = 0; i < visit.original_input.size(); ++i) {
    check_interrupted();
    if (streams == Streams::kBoth)
      original.push_back(site_input(model, visit.original, visit.layer,
                                    visit.original_input[i],
                                    visit.original_contexts[i], Site::kMlp)
                             .flatten(0, 1));
    compressed.push_back(site_input(model, working, visit.layer,
                                    visit.compressed_input[i],
                                    visit.compressed_contexts[i], Site::kMlp)
                             .flatten(0, 1));
  }
  if (!original.empty()) original_ = at::cat(original);
  compressed_ = at::cat(compressed);
  experts_ = tokens_by_expert(
      route(architecture_.router, working.mixture, compressed_),
      working.mixture.experts.size());
}

std::int64_t ExpertInputs::tokens(std::size_t expert) const {
  return experts_.at(expert).tokens.size(0);
}

ExpertInputs::Rows ExpertInputs::rows(std::size_t expert) const {
  const ExpertTokens& mine = experts_.at(expert);
  return {original_.defined() ? original_.index_select(0, mine.tokens)
                              : at::Tensor(),
          compressed_.index_select(0, mine.tokens), mine.weights.unsqueeze(1)};
}

std::optional<SplitMoments> ExpertInputs::inner(std::size_t expert) const {
  if (tokens(expert) < kFewestTokens) return {};
  const at::NoGradGuard no_grad;
  const Rows r = rows(expert);
  return split_rows(
      r.original.defined() ? r.original * r.weights : at::Tensor(),
      r.compressed * r.weights);
}

std::optional<SplitMoments> ExpertInputs::down(std::size_t expert,
                                               const Mlp& original,
                                               const Mlp& working) const {
  if (tokens(expert) < kFewestTokens) return {};
  const at::NoGradGuard no_grad;
  const Rows r = rows(expert);
  return split_rows(
      r.original.defined()
          ? mlp_values(architecture_, original, r.original) * r.weights
          : at::Tensor(),
      mlp_values(architecture_, working, r.compressed) * r.weights);
}

at::Tensor ExpertInputs::outputs(std::size_t expert, const Mlp& working) const {
  const at::NoGradGuard no_grad;
  const Rows r = rows(expert);
  return apply_linear(mlp_values(architecture_, working, r.compressed),
                      working.down.weight, working.down.bias) *
         r.weights;
}

at::Tensor ExpertInputs::importance_inner() const {
  return compressed_.square().mean(0);
}

at::Tensor ExpertInputs::importance_down(const Mlp& working) const {
  const at::NoGradGuard no_grad;
  return mlp_values(architecture_, working, compressed_).square().mean(0);
}

}  // namespace autoglm
