// How much is masked when, while a model is pruned and trained at once.
#pragma once

#include <cstdint>

#include "passes/distillation/options.h"

namespace autoglm {

/// How far masking has come after `share` of the run: 0 until sparsity_start, 1
/// from sparsity_end, linear between.
double masking_progress(double share, const DistillationOptions& options);

/// Share of the final sparsity that is due at `progress` in [0, 1], from
/// nothing: 1 - (1 - progress)^3 (Zhu and Gupta, arXiv 1710.01878, equation 1).
double cubic_share(double progress);

/// Share of the masked units that may come back at `progress`:
/// first / 2 (1 + cos(pi progress)) (RigL, arXiv 1911.11134, section 3).
double regrow_share(double first, double progress);

/// A proportional-integral controller of a strength whose logarithm it moves by
/// the relative error of the time: a strength above 0 whatever happens, equal
/// steps in either direction. One step changes it by a factor of 8 at most.
class StrengthController {
 public:
  /// `strength` > 0: where it begins.
  explicit StrengthController(double strength);

  /// After a change of the masks left the blocks with `time`, where `wanted`
  /// was due (same unit, both above 0): the strength for the next one.
  double step(double time, double wanted);
  double strength() const;

 private:
  double log_strength_;
  double last_error_ = 0;
};

}  // namespace autoglm
