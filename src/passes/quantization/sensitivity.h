// The damage that each fused unit does alone when it is quantized, measured
// (divergence_probe.h).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autoglm/model/model.h"
#include "passes/divergence_probe.h"
#include "passes/quantization/fused_units.h"

namespace autoglm {

/// The matrix `name` of the original, quantized to `bits`.
using QuantizeMatrix = std::function<Weight(const std::string& name, int bits)>;

/// windows: [windows, T] int64 with `prefix` tokens before each text, on the
/// model's device. For every unit one value per width; for a unit without a
/// choice nothing is measured: {0}. Throws kNumeric for a trial whose
/// predictions are not finite.
std::vector<std::vector<double>> measure_sensitivity(
    const Model& model, const at::Tensor& windows, std::int64_t prefix,
    const std::vector<FusedUnit>& units, const QuantizeMatrix& quantize,
    const LogitLimits& limits = {});

}  // namespace autoglm
