#include "passes/distillation/sparse_training.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "passes/distillation/group_lasso.h"
#include "passes/distillation/mask_repair.h"
#include "passes/distillation/unit_scores.h"

namespace autoglm {
namespace {

// A price is a quotient of losses, which may be 0.
constexpr double kLeastPrice = 1e-30;

std::vector<std::size_t> levels_of(const std::vector<WidthCosts>& costs) {
  std::vector<std::size_t> out;
  for (const WidthCosts& cost : costs) out.push_back(cost.level);
  return out;
}

double total_parameters(const std::vector<WidthCosts>& costs) {
  double sum = 0;
  for (const WidthCosts& cost : costs) sum += cost.parameters.front();
  return sum;
}

}  // namespace

SparseTraining::SparseTraining(const DistillationOptions& options,
                               Student& student, torch::optim::AdamW& adam,
                               const PassContext& context,
                               const at::Tensor& windows,
                               const TimeWidths& time)
    : options_(options),
      student_(student),
      adam_(adam),
      prefix_(context.prefix),
      windows_(windows),
      rng_(derive_seed(context.seed, "masks")),
      parts_(find_units(student.model, options)) {
  if (options.latency_weight > 0 || options.latency_target > 0)
    times_ = time(student.model, parts_);
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const UnitPart& part = parts_[p];
    const auto where = at::TensorOptions(at::kFloat).device(context.device);
    gates_.push_back(at::ones({part.units}, where).requires_grad_(true));
    masks_.push_back(at::ones({part.units}, at::kBool));
    taylor_.push_back(at::zeros({part.units}, where));
    wishes_.push_back(at::zeros({part.units}, where));
    const at::Tensor norms = unit_norms(student.model.blocks[part.layer], part);
    usual_.push_back(norms.square().mean().sqrt().item<double>());
    WidthCosts cost;
    for (const std::int64_t width : part.widths)
      cost.parameters.push_back(static_cast<double>(width * part.parameters));
    cost.loss.assign(cost.parameters.size(), 0);
    if (timed()) cost.ms = times_->parts[p];
    costs_.push_back(std::move(cost));
  }
  if (options.latency_target == 0) return;
  std::vector<std::size_t> least;
  for (const UnitPart& part : parts_) least.push_back(part.widths.size() - 1);
  const double reach = times_->total(least) / starting_ms();
  if (options.latency_target < reach)
    fail(ErrorKind::kConfig,
         fmt::format("distillation: latency_target {} cannot be met: with all "
                     "widths at their least the blocks take {:.3f} of their "
                     "time",
                     options.latency_target, reach));
}

double SparseTraining::predicted_ms() const {
  return timed() ? times_->total(levels_of(costs_)) : 0;
}

double SparseTraining::starting_ms() const {
  return timed() ? times_->total(std::vector<std::size_t>(parts_.size(), 0))
                 : 0;
}

std::vector<std::int64_t> SparseTraining::widths() const {
  std::vector<std::int64_t> out;
  for (std::size_t p = 0; p < parts_.size(); ++p)
    out.push_back(parts_[p].widths[costs_[p].level]);
  return out;
}

double SparseTraining::parameters_gone() const {
  double sum = 0;
  for (const WidthCosts& cost : costs_)
    sum += cost.parameters.front() - cost.parameters[cost.level];
  return sum;
}

void SparseTraining::after_step(const TrainedStep& step) {
  const at::NoGradGuard no_grad;
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    at::Tensor& gradient = gates_[p].mutable_grad();
    if (!gradient.defined()) continue;
    taylor_[p] += gradient.abs();
    wishes_[p] -= gradient;
    gradient.zero_();
  }
  if (complete_) return;
  if (options_.group_lasso > 0) shrink(step.rate);
  const bool last = step.share >= options_.sparsity_end;
  if (last || (step.share >= options_.sparsity_start &&
               step.step % options_.mask_interval == 0))
    change_masks(step, masking_progress(step.share, options_));
  complete_ = last;
}

void SparseTraining::shrink(double rate) {
  const double mean = mean_rate(costs_);
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    Block& block = student_.model.blocks[parts_[p].layer];
    const double threshold =
        rate * options_.group_lasso * strength_ * usual_[p] *
        time_factor(costs_[p], mean, options_.latency_weight);
    // Masked units have no gradient to defend themselves with.
    const at::Tensor factors =
        at::where(gates_[p] > 0,
                  soft_threshold(unit_norms(block, parts_[p]), threshold), 1.0);
    scale_units(block, parts_[p], factors);
  }
}

// Enough to fit what reads the widest part, and fresh ones every time: what is
// fitted again and again to the same windows comes to fit those alone.
at::Tensor SparseTraining::some_windows() {
  std::int64_t tokens = 8192;
  for (const UnitPart& part : parts_)
    tokens = std::max(tokens, 4 * part.units * part.columns);
  const std::int64_t all = windows_.size(0);
  const std::int64_t count = std::clamp<std::int64_t>(
      tokens / windows_.size(1), std::min<std::int64_t>(8, all), all);
  const std::vector<std::int64_t> order = rng_.permutation(all);
  return windows_
      .index_select(0, at::tensor(order, at::kLong).narrow(0, 0, count))
      .to(gates_[0].device());
}

std::vector<at::Tensor> SparseTraining::importance(const at::Tensor& windows) {
  constexpr std::int64_t kBackward = 8;  // windows with gradients
  if (options_.importance == "taylor") return taylor_;
  if (options_.importance == "fisher")
    return fisher_scores(
        student_.model, parts_, gates_,
        windows.narrow(0, 0, std::min(kBackward, windows.size(0))), prefix_,
        rng_);
  if (options_.importance == "obs")
    return surgeon_scores(model(), parts_, masks_, windows);
  return activation_scores(student_.model, model(), parts_, windows);
}

void SparseTraining::change_masks(const TrainedStep& step, double progress) {
  const at::Tensor windows = some_windows();
  const std::vector<at::Tensor> worth = importance(windows);
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    if (!at::isfinite(worth[p].sum()).item<bool>())
      fail(ErrorKind::kNumeric,
           "distillation: the importance of units is not finite; lower "
           "learning_rate");
    const std::vector<double> losses =
        masking_losses(parts_[p], masks_[p], worth[p]);
    for (std::size_t l = costs_[p].level; l < costs_[p].loss.size(); ++l)
      costs_[p].loss[l] = losses[static_cast<std::size_t>(parts_[p].widths[l])];
  }
  const double due = cubic_share(progress);
  double wanted = due * options_.sparsity;
  if (options_.latency_target > 0) {
    wanted = 1 - due * (1 - options_.latency_target);
    narrow_to_time(wanted, progress >= 1);
  } else {
    narrow_to_sparsity(wanted);
  }
  note_change(step, wanted, redraw(worth, windows, progress));
}

void SparseTraining::narrow_to_sparsity(double wanted) {
  const double all = total_parameters(costs_);
  for (;;) {
    // As near as whole moves come.
    const double missing = wanted * all - parameters_gone();
    const auto move =
        cheapest_move(costs_, options_.latency_weight, 2 * missing);
    if (!move) return;
    take(*move);
  }
}

void SparseTraining::start_controller(double wanted) {
  const std::vector<WidthCosts> now = costs_;
  double first = kLeastPrice;
  price_ = kLeastPrice;
  while (predicted_ms() > options_.latency_target * starting_ms()) {
    const auto move = cheapest_move(costs_, options_.latency_weight);
    AUTOGLM_ENSURE(move);
    price_ = std::max(price_, move->price);
    if (predicted_ms() > wanted * starting_ms()) first = price_;
    take(*move);
  }
  costs_ = now;
  controller_.emplace(first / price_);
  strength_ = first / price_;
}

void SparseTraining::narrow_to_time(double wanted, bool last) {
  if (!controller_) start_controller(wanted);
  strength_ = controller_->strength();
  while (predicted_ms() > options_.latency_target * starting_ms()) {
    const auto move = cheapest_move(costs_, options_.latency_weight);
    AUTOGLM_ENSURE(move);
    if (!last && move->price > price_ * strength_) break;
    strength_ = std::max(strength_, move->price / price_);
    take(*move);
  }
  controller_->step(predicted_ms() / starting_ms(), wanted);
}

std::int64_t SparseTraining::redraw(const std::vector<at::Tensor>& worth,
                                    const at::Tensor& windows,
                                    double progress) {
  const std::vector<at::Tensor> before = masks_;
  std::int64_t regrown = 0;
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const MaskChange change =
        next_mask(parts_[p], masks_[p], worth[p], wishes_[p],
                  parts_[p].widths[costs_[p].level],
                  regrow_share(options_.regrow, progress));
    masks_[p] = change.mask;
    regrown += change.regrown;
    gates_[p].copy_(change.mask);
    taylor_[p].zero_();
    wishes_[p].zero_();
  }
  if (options_.repair == "least_squares")
    repair_readers(student_.model, parts_, before, masks_, windows);
  forget_masked();
  return regrown;
}

// What the optimizer remembers of masked units is of a model that has gone, and
// would go on moving them.
void SparseTraining::forget_masked() {
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    Block& block = student_.model.blocks[parts_[p].layer];
    for (const UnitSlices& slices : parts_[p].slices) {
      Linear& linear = *find_linear(block, slices.name);
      const at::Tensor& leaf = slices.bias
                                   ? linear.bias
                                   : std::get<DenseWeight>(linear.weight).value;
      const auto found = adam_.state().find(leaf.unsafeGetTensorImpl());
      if (found == adam_.state().end()) continue;
      auto& state = static_cast<torch::optim::AdamWParamState&>(*found->second);
      for (at::Tensor moment : {state.exp_avg(), state.exp_avg_sq()})
        scale_slices(moment, slices, gates_[p].detach());
    }
  }
}

void SparseTraining::note_change(const TrainedStep& step, double wanted,
                                 std::int64_t regrown) {
  Json note;
  const double gone = parameters_gone() / total_parameters(costs_);
  note["step"] = step.step;
  note["due"] = wanted;
  note["sparsity"] = gone;
  note["lambda"] = options_.group_lasso * strength_;
  if (controller_) note["strength"] = strength_;
  if (timed()) note["predicted_ms"] = predicted_ms();
  note["loss"] = step.loss;
  note["regrown"] = regrown;
  note["widths"] = widths();
  changes_.push_back(std::move(note));
  log_info("distillation: step {}, {:.1f} % masked{}, loss {:.4f}", step.step,
           100 * gone,
           timed() ? fmt::format(", blocks {:.3g} ms predicted", predicted_ms())
                   : "",
           step.loss);
}

Json SparseTraining::width_times() const {
  Json out = Json::array();
  for (std::size_t p = 0; timed() && p < parts_.size(); ++p) {
    const char* part = part_name(parts_[p].part);
    const std::string layer = std::to_string(parts_[p].layer);
    // Parts that are alike share a row.
    const auto same =
        std::find_if(out.begin(), out.end(), [&](const Json& row) {
          return row["part"] == part && row["units"] == parts_[p].widths &&
                 row["ms"] == times_->parts[p];
        });
    if (same != out.end()) {
      (*same)["layers"] = (*same)["layers"].get<std::string>() + " " + layer;
      continue;
    }
    out.push_back({{"layers", layer},
                   {"part", part},
                   {"units", parts_[p].widths},
                   {"ms", times_->parts[p]}});
  }
  return out;
}

}  // namespace autoglm
