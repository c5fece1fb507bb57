#include "passes/distillation/unit_scores.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "autoglm/model/block_parts.h"
#include "autoglm/model/forward.h"
#include "autoglm/model/walk.h"
#include "passes/distillation/unit_masks.h"
#include "passes/label_gradient.h"
#include "passes/layer_moments.h"
#include "passes/pruning/obs.h"

namespace autoglm {
namespace {

at::Tensor mean_square(const at::Tensor& x) {
  return x.to(at::kFloat).square().mean();
}

// [units]: what each adds to its part's output, squared, mean over tokens.
at::Tensor energies(const UnitPart& part, const at::Tensor& weight,
                    const at::Tensor& inputs) {
  const at::Tensor each =
      inputs.to(at::kFloat).square().flatten(0, -2).mean(0) *
      weight.to(at::kFloat).square().sum(0);
  return each.view({part.units, part.columns}).sum(1) /
         static_cast<double>(weight.size(0));
}

// What the norm behind the part does to the size of its output.
at::Tensor gain_behind(const Architecture& a, const Norm& norm,
                       const Linear& reader, const at::Tensor& inputs) {
  if (!norm.gain.defined()) return at::ones({}, inputs.options());
  const at::Tensor out = apply_linear(inputs, reader.weight, reader.bias);
  return mean_square(apply_norm(norm, out, a.norm_epsilon)) /
         mean_square(out).clamp_min(1e-30);
}

// Of one batch.
std::vector<at::Tensor> batch_scores(const Model& model, const Model& masked,
                                     const std::vector<UnitPart>& parts,
                                     const at::Tensor& ids) {
  const Architecture& a = model.architecture;
  AttentionContext context = attention_context(masked, ids);
  at::Tensor x = embed(masked, masked.embedding, ids, context, at::kFloat);
  std::vector<at::Tensor> out(parts.size());
  for (std::size_t i = 0; i < masked.blocks.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    for (std::size_t p = 0; p < parts.size(); ++p) {
      const UnitPart& part = parts[p];
      if (part.layer != i) continue;
      Block gated = masked.blocks[i], plain = model.blocks[i];
      const bool mlp = part.part == BlockPart::kMlp;
      const at::Tensor inputs = site_input(masked, gated, layer, x, context,
                                           mlp ? Site::kDown : Site::kOutput);
      out[p] = energies(part,
                        to_dense(find_linear(plain, part.reader)->weight,
                                 at::kFloat),
                        inputs) *
               gain_behind(
                   a, mlp ? gated.after_mlp_norm : gated.after_attention_norm,
                   *find_linear(gated, part.reader), inputs);
    }
    x = block_forward(masked, masked.blocks[i], layer, x, context);
    const at::Tensor stream = mean_square(x).clamp_min(1e-30);
    for (std::size_t p = 0; p < parts.size(); ++p)
      if (parts[p].layer == i) out[p] = out[p] / stream;
  }
  return out;
}

// Of one part in a walk.
at::Tensor surgeon_scores(const Model& model, const BlockVisit& visit,
                          const UnitPart& part, const at::Tensor& mask) {
  Block block = visit.original;  // find_linear wants to write
  const bool mlp = part.part == BlockPart::kMlp;
  const Site site = mlp ? Site::kDown : Site::kOutput;
  const Linear& reader = *find_linear(block, part.reader);
  const at::Tensor weight = to_dense(reader.weight, at::kFloat);
  const at::Tensor on = at::nonzero(mask.to(weight.device())).flatten();
  const at::Tensor columns =
      at::nonzero(mask.to(weight.device()).repeat_interleave(part.columns))
          .flatten();
  const Moments all =
      collect_moments(model, visit, block, site, Streams::kCompressed).fit;
  // What is masked cannot take over.
  Moments moments = all;
  moments.compressed =
      all.compressed.index_select(0, columns).index_select(1, columns);
  moments.sum = all.sum.index_select(0, columns);
  const at::Tensor scores = obs_scores(weight.index_select(1, columns), moments,
                                       part.columns, part.sets);
  const at::Tensor gain = gain_behind(
      model.architecture,
      mlp ? block.after_mlp_norm : block.after_attention_norm, reader,
      site_input(model, block, visit.layer, visit.original_input.front(),
                 visit.original_contexts.front(), site));
  return at::zeros({part.units}, scores.options()).index_copy(0, on, scores) *
         gain / (all.tokens * static_cast<double>(weight.size(0)));
}

// Its head and final norm take no gradients.
Model with_still_head(Model model) {
  const auto still = [](Weight& weight) {
    if (auto* dense = std::get_if<DenseWeight>(&weight))
      dense->value = dense->value.detach();
  };
  still(model.embedding);
  if (model.head) still(model.head->weight);
  model.final_norm.gain = model.final_norm.gain.detach();
  if (model.final_norm.bias.defined())
    model.final_norm.bias = model.final_norm.bias.detach();
  return model;
}

}  // namespace

std::vector<at::Tensor> activation_scores(const Model& model,
                                          const Model& masked,
                                          const std::vector<UnitPart>& parts,
                                          const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  constexpr std::int64_t kBatch = 8;
  std::vector<at::Tensor> out(parts.size());
  for (const at::Tensor& windows : ids.split(kBatch)) {
    const double share =
        static_cast<double>(windows.size(0)) / static_cast<double>(ids.size(0));
    const auto scores = batch_scores(model, masked, parts, windows);
    for (std::size_t p = 0; p < parts.size(); ++p)
      out[p] =
          out[p].defined() ? out[p] + share * scores[p] : share * scores[p];
  }
  return out;
}

std::vector<at::Tensor> surgeon_scores(const Model& masked,
                                       const std::vector<UnitPart>& parts,
                                       const std::vector<at::Tensor>& masks,
                                       const at::Tensor& windows) {
  const at::NoGradGuard no_grad;
  Model work = masked;
  std::vector<at::Tensor> out(parts.size());
  walk_blocks(work, work.embedding, windows,
              std::max<std::int64_t>(1, windows.size(0) / 8),
              [&](const BlockVisit& visit) {
                const at::Tensor stream =
                    mean_square(visit.original_output.front()).clamp_min(1e-30);
                for (std::size_t p = 0; p < parts.size(); ++p)
                  if (static_cast<std::int64_t>(parts[p].layer) == visit.layer)
                    out[p] = surgeon_scores(work, visit, parts[p], masks[p]) /
                             stream;
                return visit.original;
              });
  return out;
}

std::vector<at::Tensor> fisher_scores(const Model& model,
                                      const std::vector<UnitPart>& parts,
                                      const std::vector<at::Tensor>& gates,
                                      const at::Tensor& ids,
                                      std::int64_t prefix, Rng& rng) {
  const Model head = with_still_head(model);
  std::vector<at::Tensor> out;
  for (const at::Tensor& gate : gates) out.push_back(at::zeros_like(gate));
  for (const at::Tensor& window : ids.split(1)) {
    at::Tensor states;
    {
      const at::AutoGradMode with_gradients(true);
      states = text_states(masked_model(model, parts, gates), window, prefix,
                           at::kFloat);
    }
    const at::Tensor from = label_gradient(head, states, {}, rng);
    const auto gradients =
        torch::autograd::grad({states}, gates, {from}, std::nullopt, false,
                              /*allow_unused=*/true);
    const at::NoGradGuard no_grad;
    for (std::size_t g = 0; g < gates.size(); ++g)
      if (gradients[g].defined())
        out[g] += gradients[g].square() / static_cast<double>(ids.size(0));
  }
  return out;
}

}  // namespace autoglm
