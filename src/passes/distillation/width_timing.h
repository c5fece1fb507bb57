// How long the parts of blocks take on this device, by their widths.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autoglm/core/json.h"
#include "passes/distillation/unit_parts.h"

namespace autoglm {

struct TimingOptions {
  std::int64_t tokens = 256;  // of one window, whose prefill is timed
  std::int64_t repeats = 25;  // measured rounds, after a warm-up round
  at::ScalarType dtype = at::kFloat;
  at::ScalarType stored = at::kFloat;  // dense matrices, once they are written
  at::Device device = at::kCPU;
};

/// A block with one part, as it is to be run.
struct TimedPart {
  std::size_t layer = 0;
  BlockPart part = BlockPart::kMlp;
  Block block;
};
/// Of every block of the model its parts, in forward order.
std::vector<TimedPart> timed_parts(const Model& model);

/// Milliseconds of each part's forward pass, its norms and its addition to the
/// stream included, through the kernels that its matrices run, the parts taking
/// turns, so that a drift of the machine hits all alike. Of the repeats the
/// lower quartile counts: other work on the machine only adds to a time. Warns
/// where medians are far above it. Parts of one shape and form are measured
/// once. `model`: the numbers of the family.
std::vector<double> time_parts(const Model& model,
                               const std::vector<TimedPart>& parts,
                               const TimingOptions& options);

/// What all parts of a model take at any widths.
struct WidthTimes {
  /// Per UnitPart, for each of its widths, not rising; ms.
  std::vector<std::vector<double>> parts;
  double fixed_ms = 0;  // of all that has no units

  /// At the given levels of the parts (indices into their widths).
  double total(const std::vector<std::size_t>& levels) const;
};
using TimeWidths =
    std::function<WidthTimes(const Model&, const std::vector<UnitPart>&)>;

/// Measures up to 16 widths of each part, evenly spread; between them times
/// are linear, and a width that took longer than a wider one counts as equal
/// (the nearest falling times in the least-squares sense).
WidthTimes time_widths(const Model& model, const std::vector<UnitPart>& parts,
                       const TimingOptions& options);

/// The non-increasing sequence nearest to `values`, by pooling neighbours that
/// violate the order (Ayer et al., Ann. Math. Stat. 26, 1955).
std::vector<double> falling(const std::vector<double>& values);

}  // namespace autoglm
