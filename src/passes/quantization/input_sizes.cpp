#include "passes/quantization/input_sizes.h"

#include "autoglm/core/interrupt.h"
#include "autoglm/model/mlp.h"
#include "passes/expert_inputs.h"

namespace autoglm {
namespace {

struct Sums {
  at::Tensor total, most;
  std::int64_t tokens = 0;

  void add(const at::Tensor& x /* [tokens, in] */) {
    if (x.size(0) == 0) return;
    const at::Tensor size = x.to(at::kFloat).abs();
    const at::Tensor sum = size.sum(0), greatest = size.amax(0);
    total = total.defined() ? total + sum : sum;
    most = most.defined() ? at::maximum(most, greatest) : greatest;
    tokens += x.size(0);
  }
  ChannelSizes sizes() const {
    return {total / static_cast<double>(tokens), most};
  }
};

}  // namespace

const ChannelSizes* InputSizes::of(Site site,
                                   std::optional<std::size_t> expert) const {
  if (expert) {
    const std::optional<ChannelSizes>& own = experts.at(*expert);
    return own ? &*own : nullptr;
  }
  const auto found = sites.find(site);
  return found == sites.end() ? nullptr : &found->second;
}

InputSizes input_sizes(const Model& model, const BlockVisit& visit) {
  const Block& block = visit.original;
  const Mixture& mixture = block.mixture;
  std::map<Site, Sums> sites;
  for (const SiteMatrices& site : block_sites(block)) sites[site.site];
  if (block.is_mixture()) sites[Site::kMlp];
  std::vector<Sums> experts(mixture.experts.size());
  const std::size_t batches = visit.compressed_input.size();
  for (std::size_t i = 0; i < batches - held_out_batches(batches); ++i)
    for (auto& [site, sums] : sites) {
      check_interrupted();
      const at::Tensor x =
          site_input(model, block, visit.layer, visit.compressed_input[i],
                     visit.compressed_contexts[i], site)
              .flatten(0, 1);
      sums.add(x);
      if (site != Site::kMlp || !block.is_mixture()) continue;
      const auto sent = tokens_by_expert(
          route(model.architecture.router, mixture, x), experts.size());
      for (std::size_t e = 0; e < experts.size(); ++e)
        experts[e].add(mlp_values(model.architecture, mixture.experts[e],
                                  x.index_select(0, sent[e].tokens)));
    }
  InputSizes out;
  for (const auto& [site, sums] : sites) out.sites[site] = sums.sizes();
  for (const Sums& sums : experts)
    out.experts.push_back(sums.tokens < ExpertInputs::kFewestTokens
                              ? std::nullopt
                              : std::optional(sums.sizes()));
  return out;
}

}  // namespace autoglm
