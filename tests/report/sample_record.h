// A made-up but plausible record: a small GLM, pruned, distilled, quantized.
#pragma once

#include "autoglm/pipeline/record.h"

namespace autoglm {

/// Everything is there: three steps, notes, latencies, constraints.
Record sample_record();

/// The same run, stopped by an error in its second step.
Record failed_record();

}  // namespace autoglm
