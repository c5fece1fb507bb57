#include "passes/distillation/sparsity_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autoglm/core/error.h"

namespace autoglm {

double masking_progress(double share, const DistillationOptions& options) {
  const double length = options.sparsity_end - options.sparsity_start;
  if (share >= options.sparsity_end || length <= 0)
    return share >= options.sparsity_end ? 1 : 0;
  return std::max(0.0, (share - options.sparsity_start) / length);
}

double cubic_share(double progress) {
  const double left = 1 - std::clamp(progress, 0.0, 1.0);
  return 1 - left * left * left;
}

double regrow_share(double first, double progress) {
  return first / 2 *
         (1 + std::cos(std::numbers::pi * std::clamp(progress, 0.0, 1.0)));
}

StrengthController::StrengthController(double strength)
    : log_strength_(std::log(strength)) {
  AUTOGLM_ENSURE(strength > 0 && std::isfinite(strength));
}

double StrengthController::step(double time, double wanted) {
  // What a unit costs spreads over about a factor of ten between layers, so a
  // tenth off the time takes about a factor of e^1 in strength: the gains make
  // up for a whole error in one or two steps.
  constexpr double kProportional = 4, kIntegral = 8;
  const double most = std::log(8.0);
  AUTOGLM_ENSURE(time > 0 && wanted > 0);
  const double error = std::log(time / wanted);
  const double change =
      kProportional * (error - last_error_) + kIntegral * error;
  log_strength_ += std::clamp(change, -most, most);
  last_error_ = error;
  return strength();
}

double StrengthController::strength() const { return std::exp(log_strength_); }

}  // namespace autoglm
