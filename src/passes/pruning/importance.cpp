#include "passes/pruning/importance.h"

#include <map>

#include "autoglm/core/error.h"
#include "autoglm/core/rng.h"
#include "autoglm/model/block_parts.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/obs.h"

namespace autoglm {
namespace {

at::Tensor wide(const Linear& linear) {
  return to_dense(linear.weight, at::kFloat);
}

// |w| or w^2, elementwise; gains [in] of columns or [out, 1] of rows first.
at::Tensor energies(const Linear& linear, Importance importance,
                    const at::Tensor& gains = {}) {
  at::Tensor weight = wide(linear);
  if (importance == Importance::kNormGain && gains.defined())
    weight = weight * gains.to(at::kFloat);
  return importance == Importance::kL1 ? weight.abs() : weight.square();
}

at::Tensor as_rows(const at::Tensor& gains) {
  return gains.defined() ? gains.unsqueeze(1) : gains;
}

bool is_weight_norm(Importance importance) {
  return importance == Importance::kL1 || importance == Importance::kL2 ||
         importance == Importance::kNormGain;
}

// l2 is the root of what was summed.
at::Tensor as_norm(const at::Tensor& sums, Importance importance) {
  return importance == Importance::kL1 ? sums : sums.sqrt();
}

// The gain of the norm through which a matrix of the attention reads.
at::Tensor gain_before(const Block& block, const std::string& name) {
  if (name == "attention.query_b") return block.attention.query_a_norm.gain;
  if (name == "attention.key_value_b")
    return block.attention.key_value_a_norm.gain;
  return block.input_norm.gain;
}

at::Tensor head_weights(const Architecture& a, const Block& block,
                        Importance importance) {
  at::Tensor scores = energies(block.attention.output, importance,
                               as_rows(block.after_attention_norm.gain))
                          .sum(0)
                          .view({-1, a.value_size})
                          .sum(-1);
  Block names = block;                     // find_linear wants to write
  std::map<std::string, at::Tensor> sums;  // of each row of a matrix
  for (std::int64_t h = 0; h < scores.size(0); ++h) {
    const at::Tensor head = at::full({1}, h, scores.options().dtype(at::kLong));
    for (const Rows& part : head_rows(a, block, head)) {
      at::Tensor& sum = sums[part.name];
      if (!sum.defined())
        sum = energies(*find_linear(names, part.name), importance,
                       gain_before(block, part.name))
                  .sum(1);
      scores[h] += sum.index_select(0, part.rows).sum();
    }
  }
  return as_norm(scores, importance);
}

at::Tensor channel_weights(const Block& block, const Mlp& mlp,
                           Importance importance) {
  at::Tensor scores =
      energies(mlp.down, importance, as_rows(block.after_mlp_norm.gain)).sum(0);
  // Gate rows and up rows of one matrix lie one behind the other.
  for (const Linear* inner : {&mlp.gate_up, &mlp.gate, &mlp.up})
    if (inner->present())
      scores = scores + energies(*inner, importance, block.middle_norm.gain)
                            .sum(1)
                            .view({-1, scores.size(0)})
                            .sum(0);
  return as_norm(scores, importance);
}

at::Tensor random_scores(const at::Tensor& like, std::uint64_t seed) {
  Rng rng(seed);
  const std::vector<std::int64_t> order = rng.permutation(like.size(0));
  return at::tensor(order, at::kLong).to(like.device(), at::kFloat);
}

// By what the reader receives; units of `size` columns.
at::Tensor reader_scores(const Linear& reader, std::int64_t size,
                         Importance importance, const Evidence& evidence) {
  AUTOGLM_ENSURE(evidence.inputs != nullptr);
  const at::Tensor weight = wide(reader);
  if (importance == Importance::kObs)
    return obs_scores(weight, *evidence.inputs, size, evidence.fewest,
                      evidence.outputs);
  const Moments& inputs = *evidence.inputs;
  const bool activation = importance == Importance::kActivation;
  const at::Tensor energy =
      (activation ? inputs.compressed : inputs.centred().compressed)
          .diagonal()
          .clamp_min(0) /
      inputs.tokens;
  const at::Tensor sums =
      (weight.square().sum(0) * energy).view({-1, size}).sum(-1);
  return activation ? sums.sqrt() : sums;
}

const std::map<std::string, Importance>& importances() {
  static const std::map<std::string, Importance> all = {
      {"l1", Importance::kL1},
      {"l2", Importance::kL2},
      {"norm_gain", Importance::kNormGain},
      {"activation", Importance::kActivation},
      {"fluctuation", Importance::kFluctuation},
      {"taylor", Importance::kTaylor},
      {"fisher", Importance::kFisher},
      {"obs", Importance::kObs},
      {"random", Importance::kRandom}};
  return all;
}

}  // namespace

Importance importance_named(const std::string& name) {
  return importances().at(name);
}

bool needs_moments(Importance importance) {
  return importance == Importance::kActivation ||
         importance == Importance::kFluctuation ||
         importance == Importance::kObs;
}

bool needs_gradients(Importance importance) {
  return importance == Importance::kTaylor || importance == Importance::kFisher;
}

Importance without_data(Importance importance) {
  return needs_moments(importance) || needs_gradients(importance)
             ? Importance::kL1
             : importance;
}

at::Tensor head_scores(const Architecture& a, const Block& block,
                       Importance importance, const Evidence& evidence) {
  if (needs_gradients(importance)) return evidence.gradients;
  if (is_weight_norm(importance)) return head_weights(a, block, importance);
  if (importance == Importance::kRandom)
    return random_scores(head_weights(a, block, Importance::kL1),
                         evidence.seed);
  return reader_scores(block.attention.output, a.value_size, importance,
                       evidence);
}

at::Tensor channel_scores(const Block& block, const Mlp& mlp,
                          Importance importance, const Evidence& evidence) {
  if (needs_gradients(importance)) return evidence.gradients;
  if (is_weight_norm(importance))
    return channel_weights(block, mlp, importance);
  if (importance == Importance::kRandom)
    return random_scores(wide(mlp.down)[0], evidence.seed);
  return reader_scores(mlp.down, 1, importance, evidence);
}

at::Tensor largest(const at::Tensor& scores, std::int64_t count) {
  const at::Tensor order = std::get<1>(
      at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  return std::get<0>(at::sort(order.narrow(0, 0, count)));
}

}  // namespace autoglm
