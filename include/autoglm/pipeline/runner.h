// The runner: the only loop over passes. Plans the whole chain on shapes,
// prepares the data, runs and verifies each pass, measures, keeps a snapshot
// after every pass so that a killed run goes on where it was, and puts the
// finished checkpoint in place with one rename.
#pragma once

#include <filesystem>
#include <functional>

#include "autoglm/model/footprint.h"
#include "autoglm/pipeline/recipe.h"
#include "autoglm/pipeline/record.h"

namespace autoglm {

struct RunOptions {
  bool force = false;  // replace an existing output
  bool fresh = false;  // forget an unfinished run instead of resuming it
  /// Called with the finished record and the staged output folder, before it
  /// gets its name: the place for reports.
  std::function<void(const Record&, const std::filesystem::path&)> finish =
      [](const Record&, const std::filesystem::path&) {};
};

/// Runs a recipe. Returns the record; its status is "done" or "gate not met".
/// Throws what stopped it; unfinished work then stays in `<output>.partial`
/// if at least one pass was done, else nothing stays.
Record run_recipe(const Recipe& recipe, const RunOptions& options);

/// The chain on shapes alone: sizes before and after each step.
struct PlanStep {
  std::string name;
  Footprint after;
};
struct Plan {
  Footprint before;
  std::vector<PlanStep> steps;
};

/// Throws kConfig when a pass does not fit the model. Touches no weight.
Plan plan_recipe(const Recipe& recipe, const Model& model);

}  // namespace autoglm
