#include "passes/distillation/trainer.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/forward.h"
#include "passes/head_divergence.h"

namespace autoglm {

Trainer::Trainer(const DistillationOptions& options, const Model& start,
                 const PassContext& context)
    : options_(options),
      start_(start),
      prefix_(context.prefix),
      device_(context.device),
      dtype_(options.precision == "bf16" ? at::kBFloat16 : at::kFloat),
      original_(to_compute(*context.original, device_, dtype_)),
      student_(make_student(start, device_,
                            {options.train_embedding, options.train_head})) {
  const at::Tensor& all = context.training;
  const std::int64_t held = std::max<std::int64_t>(
      1, std::llround(options.holdout * static_cast<double>(all.size(0))));
  if (all.size(0) - held < 1)
    fail(ErrorKind::kConfig,
         fmt::format("distillation: {} training windows are too few",
                     all.size(0)));
  training_ = all.narrow(0, 0, all.size(0) - held);
  held_out_ = all.narrow(0, all.size(0) - held, held);
}

double Trainer::judge(const Model& model) const {
  const at::NoGradGuard no_grad;
  const Model compute = to_compute(model, device_, at::kFloat);
  double sum = 0;
  for (std::int64_t at = 0; at < held_out_.size(0); at += options_.batch) {
    const std::int64_t n = std::min(options_.batch, held_out_.size(0) - at);
    sum += loss(compute, held_out_.narrow(0, at, n), false) *
           static_cast<double>(n);
  }
  return sum / static_cast<double>(held_out_.size(0));
}

at::Tensor Trainer::windows_of(const std::vector<std::int64_t>& order) const {
  return training_.index_select(0, at::tensor(order, at::kLong));
}

double Trainer::loss(const Model& model, const at::Tensor& ids_in,
                     bool learn) const {
  const at::Tensor ids = ids_in.to(device_);
  at::Tensor taught;
  {
    const at::NoGradGuard no_grad;
    taught = text_states(original_, ids, prefix_, dtype_);
  }
  const at::AutoGradMode mode(learn);
  const at::Tensor x = text_states(model, ids, prefix_, dtype_);
  // The head runs chunk by chunk on a detached copy; the gradient it leaves
  // there is then sent through the blocks at once.
  at::Tensor leaf = x.detach();
  if (learn) leaf.requires_grad_(true);
  const double sum =
      head_divergence(original_, taught, model, leaf, options_.temperature);
  if (learn && leaf.grad().defined()) x.backward(leaf.grad());
  if (!std::isfinite(sum))
    fail(ErrorKind::kNumeric,
         "distillation: the loss is not finite; lower learning_rate");
  return sum;
}

std::vector<std::int64_t> Shuffler::next(std::int64_t batch) {
  std::vector<std::int64_t> out;
  while (static_cast<std::int64_t>(out.size()) < std::min(batch, count_)) {
    if (left_.empty()) left_ = rng_.permutation(count_);
    out.push_back(left_.back());
    left_.pop_back();
  }
  return out;
}

double rate_at(double share, const DistillationOptions& options) {
  if (share < options.warmup)
    return options.learning_rate * (share + 1e-3) / (options.warmup + 1e-3);
  const double rest = (share - options.warmup) / (1 - options.warmup);
  return options.learning_rate * 0.5 *
         (1 + std::cos(std::numbers::pi * std::min(1.0, rest)));
}

torch::optim::AdamW make_optimizer(const Student& student, double decay) {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  const auto add = [&](const std::vector<at::Tensor>& tensors, double weight) {
    if (tensors.empty()) return;
    groups.emplace_back(tensors, std::make_unique<torch::optim::AdamWOptions>(
                                     torch::optim::AdamWOptions(1e-3)
                                         .betas({0.9, 0.95})
                                         .weight_decay(weight)));
  };
  add(student.matrices, decay);
  add(student.vectors, 0);
  return torch::optim::AdamW(groups, torch::optim::AdamWOptions(1e-3));
}

}  // namespace autoglm
