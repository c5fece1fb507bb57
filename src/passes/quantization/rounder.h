// Rounds the matrices of one model, one at a time, and keeps the notes.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "autoglm/core/json.h"
#include "autoglm/core/progress.h"
#include "autoglm/model/weight.h"
#include "passes/quantization/adaquant.h"

namespace autoglm {

class Rounder {
 public:
  /// The grid of every matrix to round, by canonical name.
  Rounder(const std::map<std::string, Grid>& grids, Progress& progress)
      : grids_(grids), progress_(progress) {}

  bool wants(const std::string& name) const { return grids_.contains(name); }

  /// Without inputs: scales from the extremes, or searched evenly.
  Weight round(const std::string& name, const Weight& weight, bool search);

  /// AdaQuant on the moments of the inputs.
  Weight round(const std::string& name, const Weight& weight,
               const SplitMoments& moments, const AdaquantOptions& options);

  /// One entry per matrix: name, bits, group_size, errors.
  Json take_notes() { return std::move(notes_); }

 private:
  void note(const std::string& name, Json facts);

  const std::map<std::string, Grid>& grids_;
  Progress& progress_;
  Json notes_ = Json::array();
};

}  // namespace autoglm
