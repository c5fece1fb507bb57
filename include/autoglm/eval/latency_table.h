// What each part of a block takes at each width and at so many bits, measured
// once on the device, so that the latency of a strategy is a sum of entries
// (NetAdapt, arXiv 1804.03230, and ProxylessNAS, arXiv 1812.00332, do so).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "autoglm/core/json.h"
#include "autoglm/eval/latency.h"
#include "autoglm/model/random_model.h"

namespace autoglm {

/// One layer of a strategy.
struct LayerChoice {
  BlockWidths widths;
  PartBits bits;
};

/// Milliseconds of a model from the sum of its parts: a + b * sum.
struct LatencyFit {
  double a = 0, b = 1;
  double predict(double sum_ms) const { return a + b * sum_ms; }
};

/// The least squares of the relative errors. One point, or points of equal
/// sums, leave b at 1. Throws kInternal for lists that are empty or of
/// different lengths and for a measured time that is not above 0.
LatencyFit fit_latency(const std::vector<double>& sums_ms,
                       const std::vector<double>& measured_ms);

class LatencyTable {
 public:
  /// Entries of this architecture at one phase (exactly one of prefill and
  /// decode), batch and prompt. `file` keeps the entries of all devices,
  /// builds, architectures and points that were ever measured into it; "": no
  /// file. Throws kInput for a file that is not such a table.
  LatencyTable(Architecture architecture, LatencyOptions where,
               std::int64_t group_size, std::filesystem::path file);

  /// Milliseconds of all blocks together; an empty part takes none. Entries
  /// that are not known are measured, on random weights, and written to the
  /// file at once, so that a run that was killed goes on. Throws kResources if
  /// the file cannot be written.
  double sum_ms(const std::vector<LayerChoice>& layers);

  /// Milliseconds per step of a whole model of these choices, measured on
  /// random weights: what predictions are held against.
  double measure_ms(const std::vector<LayerChoice>& layers) const;

  std::size_t measured() const { return measured_; }  // by this object
  std::size_t reused() const { return reused_; }      // from the file

 private:
  double part_ms(const LayerChoice& layer, bool attention);
  double measure_part(const LayerChoice& layer) const;
  void save() const;

  Architecture architecture_;
  LatencyOptions where_;
  RandomWeightOptions weights_;
  std::filesystem::path file_;
  std::string key_;
  Json all_;  // key -> entry -> milliseconds
  std::size_t measured_ = 0, reused_ = 0;
};

/// `count` strategies that vary everything at once: query heads in multiples of
/// the key/value heads (all of them alike where a head has its own), FFN widths
/// in multiples of `align`, down to a quarter, and the bits of each part from
/// `bits`. The same seed gives the same ones.
std::vector<std::vector<LayerChoice>> random_strategies(
    const Architecture& architecture, const std::vector<int>& bits,
    std::int64_t align, std::size_t count, std::uint64_t seed);

}  // namespace autoglm
