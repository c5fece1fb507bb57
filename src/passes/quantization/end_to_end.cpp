#include "passes/quantization/end_to_end.h"

#include <ATen/core/grad_mode.h>
#include <torch/optim/adam.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "autoglm/core/rng.h"
#include "passes/backward_walk.h"
#include "passes/head_divergence.h"
#include "passes/layer_moments.h"
#include "passes/quantization/learned_block.h"

namespace autoglm {
namespace {

class EndToEnd {
 public:
  EndToEnd(const Model& model, const Model& original, const Stream& taught,
           const PassContext& context, const EndToEndOptions& options);

  std::size_t batches() const { return ids_.size(); }
  std::vector<at::Tensor> parameters() const;
  /// The divergence on one batch; with `learn` also every grad().
  double divergence(std::size_t batch, bool learn);
  /// The model as it would be stored.
  Model stored() const;

 private:
  const Model& model_;
  const Model& original_;
  const Stream& taught_;
  std::int64_t prefix_;
  std::vector<at::Tensor> ids_;
  std::vector<LearnedBlock> blocks_;
  LearnedVector final_gain_;
};

EndToEnd::EndToEnd(const Model& model, const Model& original,
                   const Stream& taught, const PassContext& context,
                   const EndToEndOptions& options)
    : model_(model),
      original_(original),
      taught_(taught),
      prefix_(context.prefix),
      final_gain_(model.final_norm.gain, LearnedVector::Unit::kEntry) {
  ids_ = context.calibration.to(context.device).split(options.batch);
  for (const Block& block : model.blocks)
    blocks_.push_back(LearnedBlock::scales_of(block));
}

std::vector<at::Tensor> EndToEnd::parameters() const {
  std::vector<at::Tensor> out;
  for (const LearnedBlock& block : blocks_)
    for (const auto& parameters : {block.scales(), block.vectors()})
      out.insert(out.end(), parameters.begin(), parameters.end());
  out.push_back(final_gain_.moves());
  return out;
}

double EndToEnd::divergence(std::size_t batch, bool learn) {
  const at::NoGradGuard no_grad;
  BackwardWalk walk(model_, ids_[batch],
                    [&](std::size_t i) { return blocks_[i].stored_values(); });
  const auto text = [&](const at::Tensor& x) {
    return text_positions(x, prefix_).flatten(0, 1);
  };
  Model head = model_;
  head.blocks.clear();
  head.final_norm.gain = final_gain_.stored().to(at::kFloat).clone();
  const at::Tensor states = text(walk.output()).clone().requires_grad_(learn);
  head.final_norm.gain.requires_grad_(learn);
  const double loss =
      head_divergence(original_, text(taught_[batch]), head, states);
  if (!learn) return loss;
  final_gain_.set_gradients(head.final_norm.gain.grad());
  at::Tensor gradient = at::zeros_like(walk.output());
  at::Tensor part = text_positions(gradient, prefix_);
  part.copy_(states.grad().view_as(part));
  walk.backward(
      gradient, [&](std::size_t i, const at::Tensor& input,
                    AttentionContext& context, const at::Tensor& from) {
        blocks_[i].backward(
            [&](const Block& leaves) {
              return block_forward(model_, leaves, static_cast<std::int64_t>(i),
                                   input, context);
            },
            from);
      });
  return loss;
}

Model EndToEnd::stored() const {
  Model out = model_;
  for (std::size_t i = 0; i < blocks_.size(); ++i)
    out.blocks[i] = blocks_[i].packed();
  out.final_norm.gain = final_gain_.stored();
  return out;
}

}  // namespace

void tune_end_to_end(Model& model, const Model& original, const Stream& taught,
                     const PassContext& context, const EndToEndOptions& options,
                     Json& note, const std::function<void()>& tick) {
  const Model start_model = model;
  EndToEnd learner(start_model, original, taught, context, options);
  const std::size_t fitted =
      learner.batches() - held_out_batches(learner.batches());
  const auto judge = [&] {
    const std::size_t first = first_judged(learner.batches());
    double sum = 0;
    for (std::size_t i = first; i < learner.batches(); ++i)
      sum += learner.divergence(i, /*learn=*/false);
    return sum / static_cast<double>(learner.batches() - first);
  };
  torch::optim::Adam adam(
      learner.parameters(),
      torch::optim::AdamOptions(options.rate).betas({0.9, 0.95}));
  const double start = judge();
  double best = start;
  Rng rng(options.seed);
  std::vector<std::int64_t> order;
  const std::int64_t looks = std::max<std::int64_t>(1, options.steps / 5);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    tick();
    if (order.empty())
      order = rng.permutation(static_cast<std::int64_t>(fitted));
    const double share =
        static_cast<double>(step) / static_cast<double>(options.steps);
    adam.param_groups()[0].options().set_lr(
        options.rate * 0.5 * (1 + std::cos(std::numbers::pi * share)));
    learner.divergence(static_cast<std::size_t>(order.back()), /*learn=*/true);
    order.pop_back();
    adam.step();
    if ((step + 1) % looks != 0 && step + 1 != options.steps) continue;
    const double now = judge();
    // Between equal models the fp32 sum is not exactly 0.
    if (!(now < best - 1e-7)) continue;
    best = now;
    model = learner.stored();
  }
  note = {{"steps", options.steps}, {"kl_start", start}, {"kl", best}};
}

}  // namespace autoglm
