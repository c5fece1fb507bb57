#include "passes/quantization/rounded_activations.h"

#include <algorithm>

#include "autoglm/core/interrupt.h"
#include "autoglm/model/block_parts.h"

namespace autoglm {
namespace {

// The greatest size of what the matrices at `site` receive.
at::Tensor greatest_input(const Model& model, const BlockVisit& visit,
                          const Block& block, Site site) {
  at::Tensor out;
  for (std::size_t i = 0; i < visit.compressed_input.size(); ++i) {
    check_interrupted();
    const at::Tensor most =
        site_input(model, block, visit.layer, visit.compressed_input[i],
                   visit.compressed_contexts[i], site)
            .abs()
            .max()
            .to(at::kFloat);
    out = out.defined() ? at::maximum(out, most) : most;
  }
  return out;
}

}  // namespace

at::Tensor static_step(const at::Tensor& most, const Weight& weight) {
  const double greatest =
      std::holds_alternative<Float8Weight>(weight) ? 448 : 127;
  // An input that is always zero needs some step.
  return at::where(most > 0, most, at::ones_like(most)).view({1}) / greatest;
}

Block with_dynamic_activations(const Block& block,
                               const ActivationChoice& choice) {
  Block out = block;
  visit_block(
      out,
      [&](const std::string& part, Linear& linear) {
        if (choice(part) == "dynamic")
          linear.weight = with_activations(linear.weight);
      },
      [](const std::string&, at::Tensor&) {});
  return out;
}

Block with_rounded_activations(const Model& model, const BlockVisit& visit,
                               const Block& block,
                               const ActivationChoice& choice) {
  Block out = with_dynamic_activations(block, choice);
  for (const SiteMatrices& site : block_sites(block)) {
    at::Tensor most;
    for (const std::string& part : site.names) {
      if (choice(part) != "static") continue;
      if (!most.defined())
        most = greatest_input(model, visit, block, site.site);
      Weight& weight = find_linear(out, part)->weight;
      weight = with_activations(weight, static_step(most, weight));
    }
  }
  return out;
}

}  // namespace autoglm
