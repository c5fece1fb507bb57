// Measuring how much a model depends on each of its blocks and parts.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/model/model.h"
#include "autoglm/passes/sensitivity_record.h"

namespace autoglm {

/// Fills `blocks` and `loss`, and what compare_neighbours() does by
/// `threshold`. windows: [windows, T] int64 with `prefix` tokens before each
/// text, on the model's device. What is measured, part by part:
///  - without it;
///  - cut: without one query head of each key/value group (of heads with keys
///    of their own, one in eight), or an eighth of the FFN channels, those with
///    the least absolute sum of weights, nothing repaired; not where a matrix
///    is quantized;
///  - its dense matrices in 4 bits: nearest rounding, symmetric, in groups of
///    128, 64, 32 or 16, the largest that divides, else by rows.
/// Memory: the inputs of all blocks for all windows, one block's gradients, the
/// probe's (divergence_probe.h). Throws kNumeric for what is not finite.
void measure_layers(const Model& model, const at::Tensor& windows,
                    std::int64_t prefix, SensitivityRecord& record);

}  // namespace autoglm
