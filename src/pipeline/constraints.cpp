#include "autoglm/pipeline/constraints.h"

#include "autoglm/core/text.h"

namespace autoglm {
namespace {

struct Values {
  double before = 0;
  double after = 0;
};

Values values_of(const Constraint& constraint, const Record& record,
                 const MeasuredLatency* latency) {
  AUTOGLM_ENSURE(record.after.has_value());
  const std::string& measure = constraint.measure;
  if (measure == "size")
    return {static_cast<double>(record.before.disk_bytes),
            static_cast<double>(record.after->disk_bytes)};
  if (measure == "latency") {
    AUTOGLM_ENSURE(latency != nullptr);
    return {latency->before_ms, latency->after_ms};
  }
  AUTOGLM_ENSURE(record.before.scorecard && record.after->scorecard);
  const Scorecard& before = *record.before.scorecard;
  const Scorecard& after = *record.after->scorecard;
  if (measure == "perplexity") return {before.perplexity, after.perplexity};
  if (measure == "bits_per_byte")
    return {before.bits_per_byte, after.bits_per_byte};
  if (measure == "accuracy") return {before.accuracy, after.accuracy};
  AUTOGLM_ENSURE(after.divergence.has_value());
  const Divergence& d = *after.divergence;
  if (measure == "accuracy_retention") return {1, d.accuracy_retention};
  if (measure == "top1_agreement") return {1, d.top1_agreement};
  if (measure == "cosine") return {1, d.cosine};
  if (measure == "kl") return {0, d.kl};
  if (measure == "kl_p99") return {0, d.kl_p99};
  AUTOGLM_ENSURE(measure == "l2");
  return {0, d.l2};
}

std::string number(const Constraint& constraint, double value) {
  if (constraint.measure == "size")
    return format_bytes(static_cast<std::uint64_t>(value));
  if (constraint.measure == "latency") return fmt::format("{:.4g} ms", value);
  return fmt::format("{:.6g}", value);
}

}  // namespace

std::vector<ConstraintRecord> check_constraints(
    const std::vector<Constraint>& constraints, const Record& record,
    const std::vector<MeasuredLatency>& latencies) {
  std::vector<ConstraintRecord> out;
  std::size_t next_latency = 0;
  for (const Constraint& constraint : constraints) {
    const bool is_latency = constraint.measure == "latency";
    const MeasuredLatency* latency = nullptr;
    if (is_latency) {
      AUTOGLM_ENSURE(next_latency < latencies.size());
      latency = &latencies[next_latency++];
    }
    const Values values = values_of(constraint, record, latency);
    std::string measure = constraint.measure;
    if (is_latency)
      measure +=
          fmt::format(" {} (batch {})", constraint.phase, constraint.batch);
    const auto add = [&](bool at_most, double bound, const std::string& note) {
      ConstraintRecord check;
      check.measure = measure;
      check.limit = fmt::format(
          "{} {}{}", at_most ? "<=" : ">=", number(constraint, bound), note);
      check.value = values.after;
      check.bound = bound;
      check.met = at_most ? values.after <= bound : values.after >= bound;
      out.push_back(std::move(check));
    };
    if (constraint.min) add(false, *constraint.min, "");
    if (constraint.max) add(true, *constraint.max, "");
    if (constraint.max_ratio)
      add(true, *constraint.max_ratio * values.before,
          fmt::format(" ({:g} x original)", *constraint.max_ratio));
  }
  return out;
}

}  // namespace autoglm
