#include "passes/quantization/block_tuner.h"

#include <ATen/core/grad_mode.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include <memory>
#include <vector>

#include "autoglm/core/rng.h"
#include "passes/layer_moments.h"

namespace autoglm {
namespace {

// Steps of an optimizer over a block's parameters.
class Steps {
 public:
  Steps(const LearnedBlock& block, const TunerOptions& options)
      : sign_(options.sign) {
    std::vector<torch::optim::OptimizerParamGroup> groups;
    const auto add = [&](const std::vector<at::Tensor>& tensors, double rate) {
      if (tensors.empty() || rate == 0) return;
      parameters_.insert(parameters_.end(), tensors.begin(), tensors.end());
      rates_.push_back(rate);
      groups.emplace_back(tensors);
    };
    add(block.moves(), options.code_rate);
    add(block.scales(), options.scale_rate);
    add(block.zeros(), options.zero_rate);
    add(block.vectors(), options.vector_rate);
    if (sign_)
      optimizer_ = std::make_unique<torch::optim::SGD>(
          std::move(groups), torch::optim::SGDOptions(1e-3));
    else
      optimizer_ = std::make_unique<torch::optim::Adam>(
          std::move(groups),
          torch::optim::AdamOptions(1e-3).betas({0.9, 0.95}));
  }

  /// With all rates times `factor`; forgets the gradients.
  void step(double factor) {
    for (at::Tensor& parameter : parameters_)
      if (sign_ && parameter.grad().defined()) parameter.mutable_grad().sign_();
    for (std::size_t i = 0; i < rates_.size(); ++i)
      optimizer_->param_groups()[i].options().set_lr(rates_[i] * factor);
    optimizer_->step();
    for (at::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
  }

 private:
  bool sign_;
  std::vector<at::Tensor> parameters_;
  std::vector<double> rates_;  // of the optimizer's groups
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

}  // namespace

Block tune_block(const BlockLoss& loss_of, std::size_t batches,
                 const Block& block,
                 const std::map<std::string, LearningStart>& starts,
                 const TunerOptions& options, Json& note,
                 const std::function<void()>& tick) {
  const at::NoGradGuard no_grad;
  const std::size_t fitted = batches - held_out_batches(batches);
  const auto judge = [&](const Block& candidate) {
    return loss_of.mean(candidate, first_judged(batches), batches);
  };
  LearnedBlock learned(block, starts, options.vector_rate > 0);
  Steps steps(learned, options);
  const double start = judge(block);
  double best_loss = start;
  Block best = block;
  Rng rng(options.seed);
  std::vector<std::int64_t> order;
  const std::int64_t looks = std::max<std::int64_t>(1, options.iterations / 10);
  for (std::int64_t step = 0; step < options.iterations; ++step) {
    tick();
    if (order.empty())
      order = rng.permutation(static_cast<std::int64_t>(fitted));
    const double share =
        static_cast<double>(step) / static_cast<double>(options.iterations);
    const auto batch = static_cast<std::size_t>(order.back());
    order.pop_back();
    learned.backward(
        [&](const Block& leaves) { return loss_of.batch(leaves, batch); });
    steps.step(1 - share);
    learned.settle();
    if ((step + 1) % looks != 0 && step + 1 != options.iterations) continue;
    // Early states are seldom the best ones: look at the second half.
    if (share < 0.5) continue;
    const double loss = judge(learned.stored_values());
    if (!(loss < best_loss)) continue;
    best_loss = loss;
    best = learned.packed();
  }
  note["loss_start"] = start;
  note["loss"] = best_loss;
  return best;
}

}  // namespace autoglm
