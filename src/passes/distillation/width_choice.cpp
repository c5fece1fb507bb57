#include "passes/distillation/width_choice.h"

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

// Of the mean rate: where a width gains nothing its units can still go, last.
constexpr double kLeastRate = 1e-3;

// Of going from the present width to `level`.
double factor_of(const WidthCosts& part, std::size_t level, double mean,
                 double weight) {
  if (part.ms.empty() || weight == 0 || mean <= 0) return 1;
  const double saved = part.ms[part.level] - part.ms[level];
  const double rate =
      saved / (part.parameters[part.level] - part.parameters[level]);
  return std::pow(std::max(rate / mean, kLeastRate), weight);
}

}  // namespace

double mean_rate(const std::vector<WidthCosts>& parts) {
  double ms = 0, parameters = 0;
  for (const WidthCosts& part : parts) {
    if (part.ms.empty()) return 0;
    ms += part.ms.front() - part.ms.back();
    parameters += part.parameters.front() - part.parameters.back();
  }
  return parameters > 0 ? std::max(0.0, ms / parameters) : 0;
}

double time_factor(const WidthCosts& part, double mean, double weight) {
  double best = 0;
  for (std::size_t l = part.level + 1; l < part.parameters.size(); ++l)
    best = std::max(best, factor_of(part, l, mean, weight));
  return best;
}

std::optional<WidthMove> cheapest_move(const std::vector<WidthCosts>& parts,
                                       double weight, double most) {
  const double mean = mean_rate(parts);
  std::optional<WidthMove> best;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const WidthCosts& part = parts[p];
    for (std::size_t l = part.level + 1; l < part.parameters.size(); ++l) {
      const double size = part.parameters[part.level] - part.parameters[l];
      if (size > most) break;
      const double price = (part.loss[l] - part.loss[part.level]) /
                           (size * factor_of(part, l, mean, weight));
      AUTOGLM_ENSURE(std::isfinite(price));
      if (!best || price < best->price) best = WidthMove{p, l, price};
    }
  }
  return best;
}

}  // namespace autoglm
