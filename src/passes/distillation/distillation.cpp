// Train the compressed model towards the original's predictions.
//
// The student's dense tensors are trained as fp32 copies with AdamW and a
// cosine schedule; packed weights stay as they are. Windows at the end of the
// training text are held out; the best state on them, measured in the dtype
// that will be stored, is kept, and if none beats the start the start is.
//
// With `sparsity` or `latency_target` channels and heads are pruned meanwhile
// (sparse_training.h). Then only states with the final widths can be kept, and
// the best of them is, also if the start, which is larger, was better.
//
// A limit in minutes ends on the clock, so two such runs differ; limits in
// steps or epochs repeat exactly, unless measured times decide widths.
#include <torch/nn/utils/clip_grad.h>

#include <cmath>
#include <limits>
#include <optional>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/passes/pass.h"
#include "passes/distillation/options.h"
#include "passes/distillation/sparse_training.h"
#include "passes/distillation/trainer.h"
#include "passes/distillation/width_timing.h"
#include "passes/pruning/prune_block.h"

namespace autoglm::passes {
namespace {

class Distillation final : public Pass {
 public:
  using Options = DistillationOptions;

  explicit Distillation(Options options) : options_(std::move(options)) {
    check();
  }
  void run(Model& model, PassContext& context) const override;
  void plan(Model& shapes) const override;
  ConfigNode resolved_params() const override {
    return options_to_config(options_);
  }

 private:
  void check() const;

  Options options_;
};

void Distillation::check() const {
  if (!options_.prunes()) return;
  if (options_.sparsity > 0 && options_.latency_target > 0)
    fail(ErrorKind::kConfig,
         "distillation: give sparsity or latency_target, not both");
  if (options_.sparsity_start >= options_.sparsity_end)
    fail(ErrorKind::kConfig,
         fmt::format("distillation: sparsity_start {} is not below "
                     "sparsity_end {}",
                     options_.sparsity_start, options_.sparsity_end));
}

TimingOptions timing(const DistillationOptions& options, const Model& start,
                     const PassContext& context) {
  TimingOptions out;
  out.stored = dtype(head_weight(start));
  out.tokens = context.training.size(1);
  out.dtype = options.precision == "bf16" ? at::kBFloat16 : at::kFloat;
  out.device = context.device;
  return out;
}

// What was predicted of the blocks' times, and what they take: the parts of
// both models in turn.
void note_times(const SparseTraining& sparse, const Model& start,
                const Model& result, const TimingOptions& options,
                PassContext& context) {
  if (sparse.predicted_ms() == 0) return;
  std::vector<TimedPart> parts = timed_parts(start);
  const std::size_t before = parts.size();
  for (TimedPart& part : timed_parts(result)) parts.push_back(std::move(part));
  const std::vector<double> ms = time_parts(start, parts, options);
  double measured[2] = {0, 0};
  for (std::size_t i = 0; i < ms.size(); ++i)
    measured[i < before ? 0 : 1] += ms[i];
  context.note("width_times", sparse.width_times());
  context.note(
      "block_times",
      {{"before",
        {{"predicted_ms", sparse.starting_ms()}, {"measured_ms", measured[0]}}},
       {"after",
        {{"predicted_ms", sparse.predicted_ms()},
         {"measured_ms", measured[1]}}},
       {"ratio",
        {{"predicted_ms", sparse.predicted_ms() / sparse.starting_ms()},
         {"measured_ms", measured[1] / measured[0]}}}});
}

// What training came to.
struct Outcome {
  Model best;
  double loss = 0;  // of `best`, on held-out windows
  std::int64_t steps = 0;
  double tokens_per_second = 0;
  Json curve = Json::array();
};

class Training {
 public:
  Training(const DistillationOptions& options, Trainer& trainer,
           torch::optim::AdamW& adam, SparseTraining* sparse,
           const PassContext& context)
      : options_(options),
        trainer_(trainer),
        adam_(adam),
        sparse_(sparse),
        batch_(std::min(options.batch, trainer.windows())),
        tokens_(batch_ * (context.training.size(1) - context.prefix)),
        tensors_(trainer.student().matrices),
        shuffler_(trainer.windows(), context.seed) {
    const auto& vectors = trainer.student().vectors;
    tensors_.insert(tensors_.end(), vectors.begin(), vectors.end());
  }

  /// Goes on from `out`, the start and its loss.
  void run(Outcome& out);

 private:
  std::int64_t planned_steps() const;
  double step(double share);
  void judge(double shown, Outcome& out) const;

  const DistillationOptions& options_;
  Trainer& trainer_;
  torch::optim::AdamW& adam_;
  SparseTraining* sparse_;  // null: nothing is pruned
  std::int64_t batch_, tokens_;
  std::vector<at::Tensor> tensors_;
  Shuffler shuffler_;
};

std::int64_t Training::planned_steps() const {
  if (options_.steps > 0 || options_.minutes > 0) return options_.steps;
  return std::max<std::int64_t>(
      1,
      std::llround(options_.epochs * static_cast<double>(trainer_.windows()) /
                   static_cast<double>(batch_)));
}

// Returns the loss before the step.
double Training::step(double share) {
  const double rate = rate_at(share, options_);
  for (auto& group : adam_.param_groups()) group.options().set_lr(rate);
  adam_.zero_grad();
  const at::Tensor ids = trainer_.windows_of(shuffler_.next(batch_));
  const double loss = trainer_.loss(
      sparse_ != nullptr ? sparse_->model() : trainer_.student().model, ids,
      true);
  torch::nn::utils::clip_grad_norm_(tensors_, options_.max_grad_norm);
  adam_.step();
  return loss;
}

void Training::judge(double shown, Outcome& out) const {
  const Model candidate =
      sparse_ != nullptr ? sparse_->cut(trainer_.result()) : trainer_.result();
  const double held = trainer_.judge(candidate);
  out.curve.push_back(
      {{"step", out.steps}, {"loss", shown}, {"held_out", held}});
  // Between equal models the fp32 sum is not exactly 0: below this a
  // difference is rounding and no improvement.
  constexpr double kRounding = 1e-6;
  const bool final_widths = sparse_ == nullptr || sparse_->complete();
  if (!final_widths || !(held < out.loss - kRounding)) return;
  out.loss = held;
  out.best = candidate;
}

void Training::run(Outcome& out) {
  const std::int64_t steps = planned_steps();
  const double seconds = options_.minutes * 60;
  Progress progress("distillation", steps, "steps");
  double shown = 0, next_judge = 0.1;
  for (double share = 0; share < 1;) {
    const double before = share;
    const double loss = step(share);
    ++out.steps;
    shown = shown == 0 ? loss : 0.9 * shown + 0.1 * loss;
    out.tokens_per_second =
        static_cast<double>(out.steps * tokens_) / progress.elapsed();
    progress.step(1, fmt::format("loss {:.4f}, {:.0f} tokens/s", shown,
                                 out.tokens_per_second));
    share = 0;
    if (steps > 0)
      share = static_cast<double>(out.steps) / static_cast<double>(steps);
    if (seconds > 0) share = std::max(share, progress.elapsed() / seconds);
    if (sparse_ != nullptr)
      sparse_->after_step({out.steps, share, rate_at(before, options_), loss});
    if (share < next_judge && share < 1) continue;
    while (next_judge <= share) next_judge += 0.1;
    judge(shown, out);
  }
  out.tokens_per_second =
      static_cast<double>(out.steps * tokens_) / progress.elapsed();
}

void Distillation::run(Model& model, PassContext& context) const {
  if (context.original == nullptr || !context.training.defined())
    fail(ErrorKind::kConfig, "distillation needs training text");
  const Model start = model;
  Trainer trainer(options_, start, context);
  if (!trainer.trainable())
    fail(ErrorKind::kConfig,
         "distillation: every tensor is quantized and nothing can be trained; "
         "put distillation before quantization");
  torch::optim::AdamW adam =
      make_optimizer(trainer.student(), options_.weight_decay);
  const TimingOptions clock = timing(options_, start, context);
  std::optional<SparseTraining> sparse;
  if (options_.prunes())
    sparse.emplace(options_, trainer.student(), adam, context,
                   trainer.training(),
                   [&](const Model& student, const auto& parts) {
                     return time_widths(student, parts, clock);
                   });
  const double start_loss = trainer.judge(start);
  Outcome outcome = {start, start_loss};
  // Of other widths than asked for: no fallback.
  if (sparse) outcome.loss = std::numeric_limits<double>::infinity();
  Training(options_, trainer, adam, sparse ? &*sparse : nullptr, context)
      .run(outcome);
  if (!sparse && outcome.loss >= start_loss)
    log_warning(
        "distillation: no state was better than the start on held-out "
        "text; the start is kept");
  model = outcome.best;
  context.note("held_out_before", start_loss);
  context.note("held_out_after", outcome.loss);
  context.note("steps", outcome.steps);
  context.note("tokens_per_second", outcome.tokens_per_second);
  context.note("curve", std::move(outcome.curve));
  if (!sparse) return;
  context.note("masks", sparse->changes());
  note_times(*sparse, start, model, clock, context);
}

// Where a run decides which layers lose how much, the plan takes the same share
// from all; a share of the time counts as one of the widths.
void Distillation::plan(Model& shapes) const {
  if (!options_.prunes()) return;
  const double stays =
      1 - std::max(options_.sparsity, options_.latency_target > 0
                                          ? 1 - options_.latency_target
                                          : 0.0);
  for (const UnitPart& part : find_units(shapes, options_)) {
    const double wanted = stays * static_cast<double>(part.units);
    const std::int64_t count =
        *std::min_element(part.widths.begin(), part.widths.end(),
                          [&](std::int64_t a, std::int64_t b) {
                            return std::abs(static_cast<double>(a) - wanted) <
                                   std::abs(static_cast<double>(b) - wanted);
                          });
    const bool mlp = part.part == BlockPart::kMlp;
    if (count < part.units)
      narrow_block(
          shapes.architecture, shapes.blocks[part.layer],
          {!mlp, mlp,
           widths_with(part, shapes.architecture.blocks[part.layer], count)});
  }
  update_widths(shapes);
}

}  // namespace

PassInfo distillation() {
  return describe_pass<Distillation>(
      "distillation",
      "train towards the original's predictions, and prune meanwhile if asked");
}

}  // namespace autoglm::passes
