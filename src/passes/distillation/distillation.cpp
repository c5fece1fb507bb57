// Train the compressed model towards the original's predictions.
//
//   loss = T^2 * KL( softmax(original / T) || softmax(student / T) )
//
// averaged over text positions (Hinton et al., arXiv 1503.02531). The student's
// dense tensors are trained as fp32 copies with AdamW and a cosine schedule;
// packed weights stay as they are. Windows at the end of the training text are
// held out; the best state on them, measured in the dtype that will be stored,
// is kept, and if none beats the start the start is.
//
// A limit in minutes ends on the clock, so two such runs differ; limits in
// steps or epochs repeat exactly.
#include <ATen/core/grad_mode.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <cmath>
#include <numbers>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/model/forward.h"
#include "autoglm/passes/pass.h"
#include "passes/distillation/student.h"
#include "passes/head_divergence.h"

namespace autoglm::passes {
namespace {

class Distillation final : public Pass {
 public:
  struct Options {
    double minutes = 0;
    std::int64_t steps = 0;
    double epochs = 1;
    double learning_rate = 1e-3;
    std::int64_t batch = 8;
    double temperature = 1;
    double warmup = 0.03;
    double weight_decay = 0.01;
    double max_grad_norm = 1;
    double holdout = 0.03;
    bool train_embedding = true;
    bool train_head = true;
    std::string precision = "fp32";

    template <class Field>
    void visit(Field&& field) {
      field("minutes", minutes, "time limit; 0: none", Range{0, 1e6});
      field("steps", steps, "optimizer steps; 0: by epochs", Range{0, 1e9});
      field("epochs", epochs,
            "passes over the training windows, unless minutes or steps say",
            Range{0.001, 1e6});
      field("learning_rate", learning_rate, "peak rate of AdamW",
            Range{1e-8, 1});
      field("batch", batch, "windows per step", Range{1, 65536});
      field("temperature", temperature, "softens both distributions",
            Range{0.1, 100});
      field("warmup", warmup, "share of the run with a rising rate",
            Range{0, 0.5});
      field("weight_decay", weight_decay, "of matrices", Range{0, 10});
      field("max_grad_norm", max_grad_norm, "gradients are clipped to it",
            Range{1e-6, 1e6});
      field("holdout", holdout, "share of windows that judges, not trains",
            Range{0.001, 0.5});
      field("train_embedding", train_embedding, "also change the embedding");
      field("train_head", train_head, "also change the output head");
      field("precision", precision, "of the student's and original's forward",
            Choices{"fp32", "bf16"});
    }
  };

  explicit Distillation(Options options) : options_(std::move(options)) {}
  void run(Model& model, PassContext& context) const override;
  void plan(Model&) const override {}  // shapes and forms stay
  ConfigNode resolved_params() const override {
    return options_to_config(options_);
  }

 private:
  Options options_;
};

class Trainer {
 public:
  Trainer(const Distillation::Options& options, const Model& start,
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

  std::int64_t windows() const { return training_.size(0); }
  bool trainable() const {
    return !student_.matrices.empty() || !student_.vectors.empty();
  }
  Student& student() { return student_; }
  Model result() const { return finished(student_, start_); }

  /// Mean loss over the windows `ids`; with `learn` also adds its gradients.
  double loss(const Model& model, const at::Tensor& ids, bool learn) const;

  /// The loss of `model` as it will be stored, on the held-out windows.
  double judge(const Model& model) const {
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

  at::Tensor windows_of(const std::vector<std::int64_t>& order) const {
    return training_.index_select(0, at::tensor(order, at::kLong));
  }

 private:
  const Distillation::Options& options_;
  const Model& start_;
  std::int64_t prefix_;
  at::Device device_;
  at::ScalarType dtype_;
  Model original_;
  Student student_;
  at::Tensor training_, held_out_;
};

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

// Windows in a fresh random order every epoch.
class Shuffler {
 public:
  Shuffler(std::int64_t count, std::uint64_t seed)
      : count_(count), rng_(seed) {}
  std::vector<std::int64_t> next(std::int64_t batch) {
    std::vector<std::int64_t> out;
    while (static_cast<std::int64_t>(out.size()) < std::min(batch, count_)) {
      if (left_.empty()) left_ = rng_.permutation(count_);
      out.push_back(left_.back());
      left_.pop_back();
    }
    return out;
  }

 private:
  std::int64_t count_;
  Rng rng_;
  std::vector<std::int64_t> left_;
};

double rate_at(double share, const Distillation::Options& options) {
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

void Distillation::run(Model& model, PassContext& context) const {
  if (context.original == nullptr || !context.training.defined())
    fail(ErrorKind::kConfig, "distillation needs training text");
  const Model start = model;
  Trainer trainer(options_, start, context);
  if (!trainer.trainable())
    fail(ErrorKind::kConfig,
         "distillation: every tensor is quantized and nothing can be trained; "
         "put distillation before quantization");
  const double start_loss = trainer.judge(start);
  double best_loss = start_loss;
  Model best = start;

  const std::int64_t batch = std::min(options_.batch, trainer.windows());
  std::int64_t steps = options_.steps;
  if (steps == 0 && options_.minutes == 0)
    steps = std::max<std::int64_t>(
        1,
        std::llround(options_.epochs * static_cast<double>(trainer.windows()) /
                     static_cast<double>(batch)));
  const double seconds = options_.minutes * 60;
  torch::optim::AdamW adam =
      make_optimizer(trainer.student(), options_.weight_decay);
  std::vector<at::Tensor> all = trainer.student().matrices;
  all.insert(all.end(), trainer.student().vectors.begin(),
             trainer.student().vectors.end());
  Shuffler shuffler(trainer.windows(), context.seed);
  Progress progress("distillation", steps, "steps");
  Json curve = Json::array();
  double shown = 0, next_judge = 0.1;
  std::int64_t step = 0;
  for (double share = 0; share < 1;) {
    for (auto& group : adam.param_groups())
      group.options().set_lr(rate_at(share, options_));
    adam.zero_grad();
    const double loss =
        trainer.loss(trainer.student().model,
                     trainer.windows_of(shuffler.next(batch)), true);
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
    if (share < next_judge && share < 1) continue;
    while (next_judge <= share) next_judge += 0.1;
    const Model candidate = trainer.result();
    const double held = trainer.judge(candidate);
    curve.push_back({{"step", step}, {"loss", shown}, {"held_out", held}});
    // Between equal models the fp32 sum is not exactly 0: below this a
    // difference is rounding and no improvement.
    constexpr double kRounding = 1e-6;
    if (held < best_loss - kRounding) {
      best_loss = held;
      best = candidate;
    }
  }
  if (best_loss >= start_loss)
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
}

}  // namespace

PassInfo distillation() {
  return describe_pass<Distillation>(
      "distillation", "train towards the original's predictions");
}

}  // namespace autoglm::passes
