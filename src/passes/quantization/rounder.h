// Rounds matrices one at a time by their scheme, and keeps the notes.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "autoglm/core/json.h"
#include "autoglm/core/progress.h"
#include "autoglm/model/weight.h"
#include "passes/layer_moments.h"
#include "passes/quantization/adaquant.h"
#include "passes/quantization/options.h"

namespace autoglm {

/// Learning steps for matrices of `bits`: as asked, or by mode and width.
std::int64_t automatic_iterations(const QuantizationOptions& options, int bits);

/// As `rtn` stores a matrix: e4m3, or codes by the extremes of each group.
/// Throws kNumeric, naming it, for NaN or infinity.
Weight round_to_nearest(const std::string& name, const Linear& linear,
                        const Scheme& scheme);

class Rounder {
 public:
  /// `schemes`: of every matrix to round, by canonical name.
  Rounder(const std::map<std::string, Scheme>& schemes,
          const QuantizationOptions& options, Progress& progress)
      : schemes_(schemes), options_(options), progress_(progress) {}

  bool wants(const std::string& name) const { return schemes_.contains(name); }
  const Scheme& scheme(const std::string& name) const {
    return schemes_.at(name);
  }
  /// Does its method look at the inputs?
  bool wants_inputs(const std::string& name) const {
    return wants(name) && scheme(name).method != "rtn";
  }
  /// Does it learn together with its block?
  bool learns_by_block(const std::string& name) const {
    return wants(name) && scheme(name).method == "adaquant" &&
           options_.mode == "block";
  }
  /// Is its error measured by what it costs the predictions?
  bool uses_fisher(const std::string& name) const {
    return wants(name) && scheme(name).method == "adaquant" && options_.fisher;
  }
  /// Does it make up for the drift between the streams?
  bool fits_drift(const std::string& name) const {
    return wants(name) && scheme(name).method == "adaquant" &&
           options_.error_feedback;
  }
  bool learns_alone(const std::string& name) const {
    return wants(name) && scheme(name).method == "adaquant" &&
           options_.mode == "layer";
  }

  /// Without inputs: scales from the extremes (rtn), or searched with the
  /// weights `importance` [in] (may be undefined: evenly).
  Rounded round(const std::string& name, const Linear& linear,
                const at::Tensor& importance = {});

  /// Without inputs, as stored: e4m3 or codes.
  Weight round_alone(const std::string& name, const Linear& linear);

  /// By its method on the moments of the inputs and, where it is known, the
  /// metric over the outputs (else empty); what learns by block gets the
  /// best start. Learning alone may also change `bias`, which is the linear's.
  Rounded round(const std::string& name, const Linear& linear,
                const SplitMoments& moments, const OutputMetric& outputs,
                at::Tensor& bias);

  /// Adds to the notes of a matrix that was rounded.
  void annotate(const std::string& name, const Json& facts);
  void tick() { progress_.step(0); }

  /// One entry per matrix: name, bits, group_size, symmetric, method, errors.
  Json take_notes();

 private:
  AdaquantOptions adaquant_options(const std::string& name) const;
  void note(const std::string& name, Json facts);

  const std::map<std::string, Scheme>& schemes_;
  const QuantizationOptions& options_;
  Progress& progress_;
  std::vector<std::string> order_;
  std::map<std::string, Json> notes_;
};

}  // namespace autoglm
