#include "passes/pruning/experts.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "autoglm/core/interrupt.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "passes/expert_inputs.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/rerouting.h"

namespace autoglm {
namespace {

std::string expert_name(std::size_t expert) {
  return fmt::format("mlp.experts.{}", expert);
}

std::vector<std::int64_t> numbers(const at::Tensor& cpu) {
  const at::Tensor whole = cpu.contiguous();
  const auto* data = whole.const_data_ptr<std::int64_t>();
  return {data, data + whole.numel()};
}

// By the weights of the whole expert.
double weight_score(const Block& block, const Mlp& expert,
                    Importance importance) {
  const at::Tensor channels = channel_scores(block, expert, importance, {});
  return importance == Importance::kL1
             ? channels.sum().item<double>()
             : channels.square().sum().sqrt().item<double>();
}

// By what the expert adds to the stream: y [m, H] for m of all tokens.
double output_score(const at::Tensor& y, std::int64_t tokens,
                    Importance importance) {
  const double all = static_cast<double>(tokens);
  if (importance == Importance::kActivation)
    return y.norm(2, -1).sum(at::kDouble).item<double>() / all;
  const double energy = y.square().sum(at::kDouble).item<double>() / all;
  const at::Tensor mean = y.sum(0, /*keepdim=*/false, at::kDouble) / all;
  return energy - mean.square().sum().item<double>();
}

at::Tensor expert_scores(const Model& model, const BlockVisit* visit,
                         const Block& block, std::int64_t left,
                         const PruningMethod& method,
                         const BlockEvidence& evidence) {
  const std::vector<Mlp>& experts = block.mixture.experts;
  Importance importance = method.importance;
  if (visit == nullptr && needs_moments(importance))
    importance = without_data(importance);
  if (needs_gradients(importance) && evidence.gradients.empty())
    importance = without_data(importance);
  std::optional<ExpertInputs> inputs;
  if (needs_moments(importance))
    inputs.emplace(model, *visit, block, Streams::kCompressed);
  if (importance == Importance::kObs) {
    constexpr std::int64_t kMostTokens = 4096;
    const at::Tensor& x = inputs->inputs();
    const std::int64_t step = (x.size(0) + kMostTokens - 1) / kMostTokens;
    return rerouting_scores(model.architecture, block.mixture,
                            x.slice(0, 0, x.size(0), step), left);
  }
  const std::vector<std::int64_t> order =
      Rng(derive_seed(evidence.seed, "mlp.experts"))
          .permutation(static_cast<std::int64_t>(experts.size()));
  std::vector<double> out;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    check_interrupted();
    if (importance == Importance::kRandom) {
      out.push_back(static_cast<double>(order[e]));
    } else if (needs_gradients(importance)) {
      // One that no token was sent to has none.
      const auto found = evidence.gradients.find(expert_name(e));
      out.push_back(
          found == evidence.gradients.end() ? 0 : found->second.item<double>());
    } else if (inputs) {
      out.push_back(output_score(inputs->outputs(e, experts[e]),
                                 inputs->inputs().size(0), importance));
    } else {
      out.push_back(weight_score(block, experts[e], importance));
    }
  }
  return at::tensor(out, at::kDouble).to(at::kFloat);
}

// Of what leaves the block, on held-out tokens.
double block_error(const Model& model, const BlockVisit& visit,
                   const Block& working) {
  const at::NoGradGuard no_grad;
  double error = 0, energy = 0;
  const std::size_t batches = visit.original_input.size();
  for (std::size_t b = first_judged(batches); b < batches; ++b) {
    AttentionContext context = visit.compressed_contexts[b];
    const at::Tensor& wanted = visit.original_output[b];
    const auto sum = [](const at::Tensor& x) {
      return x.square().sum(at::kDouble).item<double>();
    };
    error += sum(block_forward(model, working, visit.layer,
                               visit.compressed_input[b], context) -
                 wanted);
    energy += sum(wanted - visit.original_input[b]);
  }
  return energy > 0 ? error / energy : 0;
}

// The shared expert fitted to what the whole block is to give.
Block with_fitted_shared(const Model& model, const BlockVisit& visit,
                         const Block& block, const PruningMethod& method,
                         const BlockEvidence& evidence) {
  Block out = block;
  Linear& down = out.mixture.shared.down;
  const auto tokens = evidence.fisher.tokens.find(Site::kDown);
  const SplitMoments moments = reader_moments(
      model, visit, block, Part::kMlp,
      tokens != evidence.fisher.tokens.end() ? tokens->second : at::Tensor());
  const at::Tensor all =
      at::arange(columns(down.weight),
                 at::TensorOptions(at::kLong).device(device(down.weight)));
  keep_columns(down, all, &moments, method.repair, method.new_biases);
  return out;
}

}  // namespace

std::int64_t experts_left(const BlockWidths& from, const RouterRule& rule,
                          double ratio) {
  if (ratio == 0) return from.experts;
  const std::int64_t of_group = from.experts / rule.groups;
  // Groups are chosen by their two best experts.
  const std::int64_t least = std::max<std::int64_t>(
      (rule.per_token + rule.kept_groups - 1) / rule.kept_groups,
      rule.groups > 1 ? 2 : 1);
  const std::int64_t wanted =
      std::llround(static_cast<double>(of_group) * (1 - ratio));
  return rule.groups * std::min(of_group, std::max(least, wanted));
}

at::Tensor best_experts(const at::Tensor& scores, std::int64_t left,
                        std::int64_t groups) {
  const at::Tensor cpu = scores.cpu();
  const std::int64_t size = cpu.size(0) / groups;
  std::vector<at::Tensor> out;
  for (std::int64_t g = 0; g < groups; ++g)
    out.push_back(largest(cpu.narrow(0, g * size, size), left / groups) +
                  g * size);
  return at::cat(out);
}

Block keep_experts(Block block, const at::Tensor& kept) {
  Mixture& mixture = block.mixture;
  const at::Tensor rows = kept.to(mixture.router.device());
  mixture.router = pick(mixture.router, 0, rows);
  mixture.correction_bias = pick(mixture.correction_bias, 0, rows);
  std::vector<Mlp> experts;
  for (const std::int64_t e : numbers(kept))
    experts.push_back(mixture.experts.at(static_cast<std::size_t>(e)));
  mixture.experts = std::move(experts);
  return block;
}

BlockEvidence keep_experts(BlockEvidence evidence, const at::Tensor& kept) {
  UnitGradients renumbered;
  for (auto& [name, scores] : evidence.gradients)
    if (!name.starts_with("mlp.experts.")) renumbered[name] = scores;
  std::size_t place = 0;
  for (const std::int64_t e : numbers(kept)) {
    const auto found = evidence.gradients.find(
        expert_name(static_cast<std::size_t>(e)) + ".down");
    if (found != evidence.gradients.end())
      renumbered[expert_name(place) + ".down"] = found->second;
    ++place;
  }
  evidence.gradients = std::move(renumbered);
  return evidence;
}

FewerExperts drop_experts(const Model& model, const BlockVisit* visit,
                          const Block& block, const PruningTarget& target,
                          const PruningMethod& method,
                          const BlockEvidence& evidence, Json& note) {
  const BlockVisit* data = method.needs_data() ? visit : nullptr;
  const std::int64_t left = target.widths.experts;
  FewerExperts out;
  out.kept =
      best_experts(expert_scores(model, data, block, left, method, evidence),
                   left, model.architecture.router.groups);
  out.block = keep_experts(block, out.kept);
  const std::vector<std::int64_t> kept = numbers(out.kept);
  Json dropped = Json::array();
  for (std::int64_t e = 0, next = 0;
       e < static_cast<std::int64_t>(block.mixture.experts.size()); ++e)
    if (next < left && kept[static_cast<std::size_t>(next)] == e)
      ++next;
    else
      dropped.push_back(e);
  note["experts"] = left;
  note["dropped_experts"] = std::move(dropped);
  if (data == nullptr) return out;
  const double cut = block_error(model, *data, out.block);
  note["experts_error_cut"] = cut;
  const Weight& shared = block.mixture.shared.down.weight;
  if (method.repair == RepairKind::kNone || target.ffn ||
      !block.mixture.shared.down.present() ||
      !std::holds_alternative<DenseWeight>(shared))
    return out;
  const Block fitted =
      with_fitted_shared(model, *data, out.block, method, evidence);
  const double error = block_error(model, *data, fitted);
  if (error < cut) out.block = fitted;
  note["experts_error"] = std::min(cut, error);
  return out;
}

}  // namespace autoglm
