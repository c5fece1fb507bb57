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
  std::int64_t steps_for(std::int64_t windows) const;

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

std::int64_t Distillation::steps_for(std::int64_t windows) const {
  if (options_.steps > 0 || options_.minutes > 0) return options_.steps;
  const std::int64_t batch = std::min(options_.batch, windows);
  return std::max<std::int64_t>(
      1, std::llround(options_.epochs * static_cast<double>(windows) /
                      static_cast<double>(batch)));
}

TimingOptions timing(const DistillationOptions& options,
                     const PassContext& context) {
  TimingOptions out;
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
  std::optional<SparseTraining> sparse;
  if (options_.prunes())
    sparse.emplace(options_, trainer.student(), adam, context,
                   [&](const Model& student, const auto& parts) {
                     return time_widths(student, parts,
                                        timing(options_, context));
                   });
  const double start_loss = trainer.judge(start);
  double best_loss =
      sparse ? std::numeric_limits<double>::infinity() : start_loss;
  Model best = start;

  const std::int64_t batch = std::min(options_.batch, trainer.windows());
  const std::int64_t steps = steps_for(trainer.windows());
  const double seconds = options_.minutes * 60;
  std::vector<at::Tensor> all = trainer.student().matrices;
  all.insert(all.end(), trainer.student().vectors.begin(),
             trainer.student().vectors.end());
  Shuffler shuffler(trainer.windows(), context.seed);
  Progress progress("distillation", steps, "steps");
  Json curve = Json::array();
  double shown = 0, next_judge = 0.1;
  std::int64_t step = 0;
  for (double share = 0; share < 1;) {
    const double rate = rate_at(share, options_);
    for (auto& group : adam.param_groups()) group.options().set_lr(rate);
    adam.zero_grad();
    const at::Tensor ids = trainer.windows_of(shuffler.next(batch));
    const double loss = trainer.loss(
        sparse ? sparse->model() : trainer.student().model, ids, true);
    torch::nn::utils::clip_grad_norm_(all, options_.max_grad_norm);
    adam.step();
    ++step;
    shown = shown == 0 ? loss : 0.9 * shown + 0.1 * loss;
    const double tokens = static_cast<double>(
        step * batch * (context.training.size(1) - context.prefix));
    progress.step(1, fmt::format("loss {:.4f}, {:.0f} tokens/s", shown,
                                 tokens / progress.elapsed()));
    share = 0;
    if (steps > 0)
      share = static_cast<double>(step) / static_cast<double>(steps);
    if (seconds > 0) share = std::max(share, progress.elapsed() / seconds);
    if (sparse) sparse->after_step({step, share, rate, loss, ids});
    if (share < next_judge && share < 1) continue;
    while (next_judge <= share) next_judge += 0.1;
    const Model candidate =
        sparse ? sparse->cut(trainer.result()) : trainer.result();
    const double held = trainer.judge(candidate);
    curve.push_back({{"step", step}, {"loss", shown}, {"held_out", held}});
    // Between equal models the fp32 sum is not exactly 0: below this a
    // difference is rounding and no improvement.
    constexpr double kRounding = 1e-6;
    if ((!sparse || sparse->complete()) && held < best_loss - kRounding) {
      best_loss = held;
      best = candidate;
    }
  }
  if (!sparse && best_loss >= start_loss)
    log_warning(
        "distillation: no state was better than the start on held-out "
        "text; the start is kept");
  model = best;
  context.note("held_out_before", start_loss);
  context.note("held_out_after", best_loss);
  context.note("steps", step);
  context.note("tokens_per_second",
               static_cast<double>(
                   step * batch * (context.training.size(1) - context.prefix)) /
                   progress.elapsed());
  context.note("curve", std::move(curve));
  if (!sparse) return;
  context.note("masks", sparse->changes());
  note_times(*sparse, start, model, timing(options_, context), context);
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
      "distillation", "train towards the original's predictions");
}

}  // namespace autoglm::passes
