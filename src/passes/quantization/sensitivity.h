// How much a model's predictions suffer when one unit alone is quantized: the
// mean over text positions of KL(original || changed), in nats, on calibration
// windows. Measured, not estimated; that the damages of several units add up is
// what an allocation assumes (CalibTIP, arXiv 2006.10518, section 3.3).
//
// One walk through the original's blocks gives every trial the stream that its
// block receives, so a trial runs from its block to the end.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autoglm/model/model.h"
#include "passes/quantization/fused_units.h"

namespace autoglm {

/// The matrix `name` of the original, quantized to `bits`.
using QuantizeMatrix = std::function<Weight(const std::string& name, int bits)>;

/// Elements of logits. Both may be large: windows times tokens times
/// vocabulary.
struct LogitLimits {
  std::int64_t at_once = std::int64_t{1} << 25;  // made in one go
  std::int64_t kept = std::int64_t{1} << 26;  // the original's, else made anew
};

/// windows: [windows, T] int64 with `prefix` tokens before each text, on the
/// model's device. The streams are fp32. For every unit one value per width,
/// never below 0; for a unit without a choice nothing is measured: {0}. Throws
/// kNumeric for a trial whose predictions are not finite. Memory: the
/// activations of one block border and of the last one, and the logits.
std::vector<std::vector<double>> measure_sensitivity(
    const Model& model, const at::Tensor& windows, std::int64_t prefix,
    const std::vector<FusedUnit>& units, const QuantizeMatrix& quantize,
    const LogitLimits& limits = {});

/// The same divergence between two whole models, which may differ anywhere.
double mean_divergence(const Model& original, const Model& changed,
                       const at::Tensor& windows, std::int64_t prefix,
                       const LogitLimits& limits = {});

}  // namespace autoglm
