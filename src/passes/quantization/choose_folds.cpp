#include "passes/quantization/choose_folds.h"

#include <algorithm>
#include <utility>

#include "autoglm/core/interrupt.h"
#include "autoglm/core/log.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/scale_folds.h"
#include "passes/quantization/block_loss.h"
#include "passes/quantization/input_sizes.h"
#include "passes/quantization/rounded_activations.h"

namespace autoglm {
namespace {

// A fold of the attention's or the MLP's inputs, or those of all routed
// experts, which are decided together.
struct Candidate {
  std::string name;
  std::vector<ScaleFold> folds;
};

std::vector<Candidate> candidates(const Architecture& architecture,
                                  const Block& block) {
  std::vector<Candidate> out;
  for (ScaleFold& fold : scale_folds(architecture, block)) {
    const std::string name = fold.expert ? "mlp.experts.*.down" : fold.name;
    if (out.empty() || out.back().name != name) out.push_back({name, {}});
    out.back().folds.push_back(std::move(fold));
  }
  return out;
}

// The block with some folds, before and after rounding.
struct State {
  Block dense, rounded;
  std::map<Site, at::Tensor> most;  // of the inputs, greatest sizes [in]
};

using Scales = std::vector<at::Tensor>;  // of a candidate's folds

struct Trial {
  double exponent;
  Scales scales;
  State state;
};

Model with_cache_bits(Model model, const QuantizationOptions& options) {
  if (options.kv_cache_bits > 0)
    model.architecture.kv_cache_bits = static_cast<int>(options.kv_cache_bits);
  return model;
}

class FoldChooser {
 public:
  FoldChooser(const Model& model, const BlockVisit& visit,
              const Rounder& rounder, const BlockFisher& fisher,
              const QuantizationOptions& options)
      : model_(with_cache_bits(model, options)),
        visit_(visit),
        rounder_(rounder),
        smooth_(options.folds == "smoothquant"),
        loss_(model_, visit, fisher),
        sizes_(input_sizes(model_, visit)) {
    for (const SiteMatrices& site : block_sites(visit.original))
      for (const std::string& name : site.names) site_of_[name] = site.site;
  }

  FoldedBlock run(BlockFisher fisher, Json& notes) const;

 private:
  std::string full_name(const std::string& part) const {
    return fmt::format("layers.{}.{}", visit_.layer, part);
  }
  bool wants(const std::string& part) const {
    return rounder_.wants(full_name(part));
  }
  bool is_of_use(const ScaleFold& fold) const {
    return std::any_of(fold.readers.begin(), fold.readers.end(),
                       [&](const std::string& part) { return wants(part); });
  }
  // Nothing but gains and biases would be rounded by any scales at all.
  bool takes_any_scales(const ScaleFold& fold) const {
    return fold.tensors.empty() &&
           std::all_of(fold.readers.begin(), fold.readers.end(),
                       [&](const std::string& part) { return wants(part); }) &&
           (!fold.rows.defined() || wants(fold.producer));
  }

  State start() const;
  State apply(State state, const Candidate& candidate,
              const Scales& scales) const;
  void round_part(State& state, const std::string& part) const;
  at::Tensor scales(const State& state, const ScaleFold& fold,
                    double exponent) const;
  at::Tensor greatest_weights(const State& state, const ScaleFold& fold) const;
  Trial best_trial(const State& state, const Candidate& candidate) const;
  double held_out_loss(const State& state) const;
  double choosing_loss(const State& state) const;

  const Model model_;
  const BlockVisit& visit_;
  const Rounder& rounder_;
  const bool smooth_;
  const BlockLoss loss_;
  const InputSizes sizes_;
  std::map<std::string, Site> site_of_;
};

double FoldChooser::held_out_loss(const State& state) const {
  const std::size_t batches = visit_.original_output.size();
  return loss_.mean(state.rounded, first_judged(batches), batches);
}

// Over as many of the fitting windows.
double FoldChooser::choosing_loss(const State& state) const {
  const std::size_t end = first_judged(visit_.original_output.size());
  const std::size_t count = held_out_batches(visit_.original_output.size());
  return end > count ? loss_.mean(state.rounded, end - count, end)
                     : held_out_loss(state);
}

// As rtn would store it.
void FoldChooser::round_part(State& state, const std::string& part) const {
  const Linear& dense = *find_linear(state.dense, part);
  Linear& out = *find_linear(state.rounded, part);
  out = dense;
  if (!wants(part)) return;
  const Scheme& how = rounder_.scheme(full_name(part));
  out.weight = round_to_nearest(full_name(part), dense, how);
  if (how.activations == "dynamic") out.weight = with_activations(out.weight);
  if (how.activations == "static")
    out.weight = with_activations(
        out.weight,
        static_step(state.most.at(site_of_.at(part)).max(), out.weight));
}

State FoldChooser::start() const {
  State out = {visit_.original, visit_.original, {}};
  for (const auto& [site, sizes] : sizes_.sites) out.most[site] = sizes.most;
  visit_block(
      visit_.original,
      [&](const std::string& part, const Linear&) { round_part(out, part); },
      [](const std::string&, const at::Tensor&) {});
  return out;
}

State FoldChooser::apply(State state, const Candidate& candidate,
                         const Scales& scales) const {
  const auto same = [&](const std::string& name) {
    *find_tensor(state.rounded, name) = *find_tensor(state.dense, name);
  };
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const ScaleFold& fold = candidate.folds[i];
    state.dense =
        apply_fold(state.dense, fold, scales[i],
                   takes_any_scales(fold) ? FoldedMatrices::kFloat
                                          : FoldedMatrices::kSameDtype);
    if (!fold.expert)
      state.most[fold.site] =
          state.most.at(fold.site) / fold.for_inputs(scales[i]);
    for (const std::string& name : fold.tensors) same(name);
    if (fold.rows.defined()) {
      round_part(state, fold.producer);
    } else {
      same(fold.producer + ".weight");
      same(fold.producer + ".bias");
    }
    for (const std::string& name : fold.readers) round_part(state, name);
  }
  return state;
}

// By input, over the matrices that are quantized.
at::Tensor FoldChooser::greatest_weights(const State& state,
                                         const ScaleFold& fold) const {
  Block block = state.dense;
  at::Tensor out;
  for (const std::string& part : fold.readers) {
    if (!wants(part)) continue;
    const at::Tensor most =
        to_dense(find_linear(block, part)->weight, at::kFloat).abs().amax(0);
    out = out.defined() ? at::maximum(out, most) : most;
  }
  return out;
}

at::Tensor FoldChooser::scales(const State& state, const ScaleFold& fold,
                               double exponent) const {
  const ChannelSizes* sizes = sizes_.of(fold.site, fold.expert);
  // An expert that was sent too few tokens, or is left as it is.
  if (sizes == nullptr || !is_of_use(fold))
    return at::ones({fold.channels}, state.most.begin()->second.options());
  const at::Tensor out =
      smooth_
          ? fold_scales(fold.greatest_of_inputs(sizes->most),
                        fold.greatest_of_inputs(greatest_weights(state, fold)),
                        exponent)
          : fold_scales(fold.mean_of_inputs(sizes->mean), {}, exponent);
  return takes_any_scales(fold) ? out : at::exp2(at::log2(out).round());
}

Trial FoldChooser::best_trial(const State& state,
                              const Candidate& candidate) const {
  std::optional<Trial> best;
  double least = 0;
  for (int tenths = 1; tenths <= 10; ++tenths) {
    check_interrupted();
    Trial trial = {tenths / 10.0, {}, {}};
    for (const ScaleFold& fold : candidate.folds)
      trial.scales.push_back(scales(state, fold, trial.exponent));
    trial.state = apply(state, candidate, trial.scales);
    const double loss = choosing_loss(trial.state);
    if (best && !(loss < least)) continue;
    least = loss;
    best = std::move(trial);
  }
  return std::move(*best);
}

// Errors of what a fold made smaller cost more per unit.
void rescale(BlockFisher& fisher, const ScaleFold& fold,
             const at::Tensor& scales) {
  const auto found = fisher.outputs.find(fold.producer);
  if (!fold.rows.defined() || found == fisher.outputs.end()) return;
  std::int64_t rows = 0, first = 0;
  for (const at::Tensor& part : found->second) rows += part.size(0);
  const at::Tensor factor =
      at::ones({rows}, scales.options()).index_copy(0, fold.rows, scales);
  for (at::Tensor& part : found->second) {
    const at::Tensor own = factor.narrow(0, first, part.size(0));
    first += part.size(0);
    part = part * own.unsqueeze(1) * own;
  }
}

FoldedBlock FoldChooser::run(BlockFisher fisher, Json& notes) const {
  State state = start();
  double loss = held_out_loss(state);
  for (const Candidate& candidate :
       candidates(model_.architecture, visit_.original)) {
    if (std::none_of(candidate.folds.begin(), candidate.folds.end(),
                     [&](const ScaleFold& fold) { return is_of_use(fold); }))
      continue;
    Trial trial = best_trial(state, candidate);
    const double with = held_out_loss(trial.state);
    const bool kept = with < loss;
    notes.push_back({{"layer", visit_.layer},
                     {"site", candidate.name},
                     {"kept", kept},
                     {"exponent", trial.exponent},
                     {"loss_without", loss},
                     {"loss", with}});
    if (!kept) continue;
    for (std::size_t i = 0; i < candidate.folds.size(); ++i)
      rescale(fisher, candidate.folds[i], trial.scales[i]);
    state = std::move(trial.state);
    loss = with;
  }
  return {std::move(state.dense), std::move(fisher)};
}

}  // namespace

at::Tensor fold_scales(const at::Tensor& inputs, const at::Tensor& columns,
                       double exponent) {
  // In powers of two; what is nearly nothing counts as a little.
  const auto sizes = [](const at::Tensor& values) {
    return at::log2(values.clamp_min(1e-30) / values.max().clamp_min(1e-30))
        .clamp_min(-17);
  };
  at::Tensor out = sizes(inputs) * exponent;
  if (columns.defined()) out = out - sizes(columns) * (1 - exponent);
  out = out - (out.max() + out.min()) / 2;
  return at::exp2(out.clamp(-8, 8));
}

FoldedBlock choose_folds(const Model& model, const BlockVisit& visit,
                         const Rounder& rounder, const BlockFisher& fisher,
                         const QuantizationOptions& options, Json& notes) {
  return FoldChooser(model, visit, rounder, fisher, options).run(fisher, notes);
}

}  // namespace autoglm
