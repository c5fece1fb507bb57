// Recipe: a configuration file, parsed and checked (DESIGN, "The configuration
// file"). Everything is checked here, before a weight is read.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/core/config.h"
#include "autoglm/passes/pass.h"

namespace autoglm {

/// `data.calibration`, `data.evaluation`, `data.training`.
struct DataSource {
  std::filesystem::path file;
  std::int64_t windows = 0;  // 0: as many as fit
  std::int64_t length = 256;
};

/// One limit of `constraints`.
struct Constraint {
  std::string measure;  // "accuracy_retention", "latency", "size", ...
  std::optional<double> min;
  std::optional<double> max;        // ms for latency, bytes for size
  std::optional<double> max_ratio;  // of the original's value
  std::string phase = "decode";     // latency only
  std::int64_t batch = 1;           // latency only
};

struct Step {
  std::string name;  // the type, or `name:` when a type is used twice
  std::string type;
  std::unique_ptr<Pass> pass;
};

struct Recipe {
  std::filesystem::path file;
  std::filesystem::path model;
  std::filesystem::path output;
  std::uint64_t seed = 0;
  std::string device = "auto";
  DataSource calibration, evaluation, training;
  std::vector<Step> steps;
  std::vector<Constraint> constraints;
  ConfigNode search;  // kept as written; the search room reads it

  /// All of it with every default filled in; running it again repeats the run.
  ConfigNode resolved() const;
};

struct RecipeOverrides {
  std::string model, output, device;     // --model --output --device
  std::vector<std::string> assignments;  // --set a.b=v
};

/// Reads and checks a file. Throws kConfig with file:line:column.
Recipe read_recipe(const std::filesystem::path& file,
                   const RecipeOverrides& overrides = {});

}  // namespace autoglm
