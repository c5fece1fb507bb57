#include "passes/quantization/sensitivity.h"

#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"

namespace autoglm {

std::vector<std::vector<double>> measure_sensitivity(
    const Model& model, const at::Tensor& windows, std::int64_t prefix,
    const std::vector<FusedUnit>& units, const QuantizeMatrix& quantize,
    const LogitLimits& limits) {
  std::int64_t trials = 0;
  for (const FusedUnit& unit : units)
    if (unit.widths.size() > 1)
      trials += static_cast<std::int64_t>(unit.widths.size());
  Progress progress("sensitivity", trials, "trials");
  DivergenceProbe probe(model, windows, prefix, limits);
  const auto layers = static_cast<std::int64_t>(model.blocks.size());
  std::vector<std::vector<double>> out;
  for (const FusedUnit& unit : units) {
    if (unit.widths.size() == 1) {
      out.push_back({0});
      continue;
    }
    out.emplace_back();
    for (const int bits : unit.widths) {
      Model changed = model;
      for (const std::string& name : unit.matrices)
        weight_of(changed, name) = quantize(name, bits);
      const auto layer = static_cast<std::size_t>(unit.layer);
      const double damage =
          unit.layer < 0 || unit.layer >= layers
              ? probe.with_model(changed)
              : probe.with_block(layer, changed.blocks[layer]);
      if (!std::isfinite(damage))
        fail(ErrorKind::kNumeric,
             fmt::format("quantization: with {} in {} bits the predictions are "
                         "not finite",
                         unit.name, bits));
      out.back().push_back(damage);
      progress.step(1, fmt::format("{}, {} bits", unit.name, bits));
    }
  }
  return out;
}

}  // namespace autoglm
