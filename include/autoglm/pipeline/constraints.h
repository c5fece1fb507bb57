// Constraints as gates: is the finished model inside the recipe's limits?
#pragma once

#include <vector>

#include "autoglm/pipeline/recipe.h"
#include "autoglm/pipeline/record.h"

namespace autoglm {

/// Latencies measured for a latency constraint: of its phase and batch.
struct MeasuredLatency {
  double before_ms = 0;
  double after_ms = 0;
};

/// `latencies` holds one entry per latency constraint, in order.
/// record.before and record.after must hold what the constraints speak of.
std::vector<ConstraintRecord> check_constraints(
    const std::vector<Constraint>& constraints, const Record& record,
    const std::vector<MeasuredLatency>& latencies);

}  // namespace autoglm
