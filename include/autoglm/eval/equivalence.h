// Is a model still equivalent to its reference? A list of checks, each with
// its measure, threshold and verdict.
#pragma once

#include <string>
#include <vector>

#include "autoglm/eval/scorecard.h"

namespace autoglm {

/// Limits; a check is left out when its limit is not set.
struct EquivalenceLimits {
  std::optional<double> max_kl = 0.05;
  std::optional<double> max_kl_p99;
  std::optional<double> min_top1_agreement = 0.9;
  std::optional<double> min_accuracy_retention = 0.98;
  std::optional<double> min_cosine;
  std::optional<double> max_l2;
  std::optional<double> max_perplexity_ratio;
};

struct EquivalenceCheck {
  std::string measure;  // "kl"
  double value = 0;
  double limit = 0;
  bool at_most = true;  // else at least
  bool passed = false;
};

/// `scorecard` must hold a divergence; `reference` is the original's own.
std::vector<EquivalenceCheck> check_equivalence(
    const Scorecard& scorecard, const Scorecard& reference,
    const EquivalenceLimits& limits);

Json to_json(const std::vector<EquivalenceCheck>& checks);

}  // namespace autoglm
