// Pruning while training: masks that follow a schedule, a group lasso, units
// that come back, and the device's own times deciding what goes where.
//
// After every step of the optimizer the lasso's proximal operator shrinks the
// units that are on (group_lasso.h). Every mask_interval steps the widths that
// are due (sparsity_schedule.h) are spread over the parts by what units are
// worth and the time they take (width_choice.h, width_timing.h), and masks are
// drawn anew (unit_masks.h) and repaired (mask_repair.h). From sparsity_end on
// masks stay as they are; cut() gives the model without the masked units, which
// is the same function.
#pragma once

#include <ATen/ATen.h>
#include <torch/optim/adamw.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "autoglm/core/json.h"
#include "autoglm/core/rng.h"
#include "autoglm/passes/pass.h"
#include "passes/distillation/options.h"
#include "passes/distillation/sparsity_schedule.h"
#include "passes/distillation/student.h"
#include "passes/distillation/unit_masks.h"
#include "passes/distillation/width_choice.h"
#include "passes/distillation/width_timing.h"

namespace autoglm {

/// What a step of the optimizer left behind.
struct TrainedStep {
  std::int64_t step = 0;  // from 1
  double share = 0;       // of the run that is over
  double rate = 0;        // of the optimizer
  double loss = 0;
};

class SparseTraining {
 public:
  /// Keeps references to `student` and `adam`, whose tensors it changes in
  /// place. Of the training `windows`, int64 [windows, T], some judge units and
  /// fit what reads them, others at every change. `time` is asked once, if the
  /// options need times. Throws kConfig as find_units() does, and for a
  /// latency_target that no widths meet.
  SparseTraining(const DistillationOptions& options, Student& student,
                 torch::optim::AdamW& adam, const PassContext& context,
                 const at::Tensor& windows, const TimeWidths& time);

  /// The student with its masks, for the next step.
  Model model() const { return masked_model(student_.model, parts_, gates_); }
  /// To be called after the step's gradients and the optimizer.
  void after_step(const TrainedStep& step);
  /// The masks are final.
  bool complete() const { return complete_; }
  /// `model`, of the student's shapes, without what is masked.
  Model cut(const Model& model) const {
    return cut_model(model, parts_, masks_);
  }

  const std::vector<UnitPart>& parts() const { return parts_; }
  /// bool [units] per part.
  const std::vector<at::Tensor>& masks() const { return masks_; }
  /// Units that are on, per part.
  std::vector<std::int64_t> widths() const;
  /// Rows of the record: one per change of the masks, and the measured times.
  const Json& changes() const { return changes_; }
  Json width_times() const;
  /// Of all blocks, ms; 0 where nothing was measured.
  double predicted_ms() const;
  double starting_ms() const;

 private:
  void shrink(double rate);
  void change_masks(const TrainedStep& step, double progress);
  at::Tensor some_windows();
  std::vector<at::Tensor> importance(const at::Tensor& windows);
  void narrow_to_sparsity(double wanted);
  void narrow_to_time(double wanted, bool last);
  void start_controller(double wanted);
  void take(const WidthMove& move) { costs_[move.part].level = move.level; }
  /// Returns how many came back.
  std::int64_t redraw(const std::vector<at::Tensor>& worth,
                      const at::Tensor& windows, double progress);
  void forget_masked();
  void note_change(const TrainedStep& step, double wanted,
                   std::int64_t regrown);
  bool timed() const { return times_.has_value(); }
  double parameters_gone() const;

  const DistillationOptions& options_;
  Student& student_;
  torch::optim::AdamW& adam_;
  std::int64_t prefix_;
  at::Tensor windows_;
  Rng rng_;
  std::vector<UnitPart> parts_;
  std::vector<at::Tensor> gates_, masks_;
  std::vector<at::Tensor> taylor_, wishes_;  // summed since the last change
  std::vector<double> usual_;  // norm of a unit, per part, before training
  std::vector<WidthCosts> costs_;
  std::optional<WidthTimes> times_;
  std::optional<StrengthController> controller_;
  double price_ = 0;     // at strength 1, where there is a controller
  double strength_ = 1;  // of lasso and prices
  bool complete_ = false;
  Json changes_ = Json::array();
};

}  // namespace autoglm
