#include "autoglm/eval/equivalence.h"

#include "autoglm/core/error.h"

namespace autoglm {

std::vector<EquivalenceCheck> check_equivalence(
    const Scorecard& scorecard, const Scorecard& reference,
    const EquivalenceLimits& limits) {
  AUTOGLM_ENSURE(scorecard.divergence.has_value());
  const Divergence& d = *scorecard.divergence;
  std::vector<EquivalenceCheck> out;
  const auto add = [&](const char* measure, double value,
                       const std::optional<double>& limit, bool at_most) {
    if (!limit) return;
    out.push_back({measure, value, *limit, at_most,
                   at_most ? value <= *limit : value >= *limit});
  };
  add("kl", d.kl, limits.max_kl, true);
  add("kl_p99", d.kl_p99, limits.max_kl_p99, true);
  add("top1_agreement", d.top1_agreement, limits.min_top1_agreement, false);
  add("accuracy_retention", d.accuracy_retention, limits.min_accuracy_retention,
      false);
  add("cosine", d.cosine, limits.min_cosine, false);
  add("l2", d.l2, limits.max_l2, true);
  add("perplexity_ratio", scorecard.perplexity / reference.perplexity,
      limits.max_perplexity_ratio, true);
  return out;
}

Json to_json(const std::vector<EquivalenceCheck>& checks) {
  Json out = Json::array();
  for (const EquivalenceCheck& check : checks)
    out.push_back({{"measure", check.measure},
                   {"value", check.value},
                   {"limit", check.limit},
                   {"at_most", check.at_most},
                   {"passed", check.passed}});
  return out;
}

}  // namespace autoglm
