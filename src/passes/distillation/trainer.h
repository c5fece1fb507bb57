// What distillation trains with: the loss, its windows, the optimizer.
//
//   loss = T^2 * KL( softmax(original / T) || softmax(student / T) )
//
// averaged over text positions (Hinton et al., arXiv 1503.02531).
#pragma once

#include <ATen/ATen.h>
#include <torch/optim/adamw.h>

#include <cstdint>
#include <vector>

#include "autoglm/core/rng.h"
#include "autoglm/passes/pass.h"
#include "passes/distillation/options.h"
#include "passes/distillation/student.h"

namespace autoglm {

class Trainer {
 public:
  /// Keeps references to `options` and `start`. Windows at the end of the
  /// training text are held out. Throws kConfig for too few windows.
  Trainer(const DistillationOptions& options, const Model& start,
          const PassContext& context);

  std::int64_t windows() const { return training_.size(0); }
  bool trainable() const {
    return !student_.matrices.empty() || !student_.vectors.empty();
  }
  Student& student() { return student_; }
  /// The student in the dtypes of the start.
  Model result() const { return finished(student_, start_); }

  /// Mean loss of `model` over the windows `ids` [B, T]; with `learn` also adds
  /// its gradients. Throws kNumeric for a loss that is not finite.
  double loss(const Model& model, const at::Tensor& ids, bool learn) const;

  /// The loss of `model` as it will be stored, on the held-out windows.
  double judge(const Model& model) const;

  /// All but the held-out ones, [windows, T].
  const at::Tensor& training() const { return training_; }

  /// Training windows by number: [order.size(), T].
  at::Tensor windows_of(const std::vector<std::int64_t>& order) const;

 private:
  const DistillationOptions& options_;
  const Model& start_;
  std::int64_t prefix_;
  at::Device device_;
  at::ScalarType dtype_;
  Model original_;
  Student student_;
  at::Tensor training_, held_out_;
};

/// Windows in a fresh random order every epoch.
class Shuffler {
 public:
  Shuffler(std::int64_t count, std::uint64_t seed)
      : count_(count), rng_(seed) {}
  std::vector<std::int64_t> next(std::int64_t batch);

 private:
  std::int64_t count_;
  Rng rng_;
  std::vector<std::int64_t> left_;
};

/// The learning rate after `share` of the run: a rise, then a cosine.
double rate_at(double share, const DistillationOptions& options);

/// AdamW over the student's tensors; matrices decay, vectors do not.
torch::optim::AdamW make_optimizer(const Student& student, double decay);

}  // namespace autoglm
