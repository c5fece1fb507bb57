// Which blocks or parts to remove.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "autoglm/core/json.h"
#include "passes/pruning/removal_scores.h"

namespace autoglm {

using RemovalUnits = std::vector<RemovalUnit>;

/// Taking units out of a copy of a model, one by one.
class Remover {
 public:
  explicit Remover(const Model& model) : model_(model) {}

  /// With the units gone emptied; blocks keep their numbers.
  const Model& emptied() const { return model_; }
  /// Is there a model without this one too? One attention and one MLP stay.
  bool may_remove(const RemovalUnit& unit) const;
  void remove(const RemovalUnit& unit);

 private:
  Model model_;
  std::vector<std::size_t> blocks_;  // whole ones that went, ascending
};

/// `model` without the units, its blocks counted anew.
Model without_units(const Model& model, const RemovalUnits& units);

/// What goes, in order, and facts for the record: rows in the order of removal,
/// and all that was compared.
struct RemovalChoice {
  RemovalUnits units;
  Json removed = Json::array();
  Json scores = {};
};

struct GreedyRule {
  std::size_t count = 0;  // at most
  /// Above 0: the scores, penalty included, that are removed are below it.
  double threshold = 0;
  /// What the score of a unit beside a removed one is multiplied by.
  double neighbour_penalty = 1;
};
/// Scores of units of a model, in their order.
using ScoreUnits =
    std::function<std::vector<double>(const Model&, const RemovalUnits&)>;

/// The lowest score goes, and what is left is scored again. `units` in forward
/// order; of equals the first goes. Throws kNumeric for a score that is not
/// finite.
RemovalChoice greedy_removal(const Model& model, const RemovalUnits& units,
                             const GreedyRule& rule, const ScoreUnits& score);

/// The run of `count` neighbouring blocks with the least of `distances`, one
/// for each block that a run may begin with. Throws kConfig if there is no such
/// run in `units`.
RemovalChoice best_run(const Model& model, const RemovalUnits& units,
                       std::size_t count, const std::vector<double>& distances);

RemovalChoice random_removal(const Model& model, const RemovalUnits& units,
                             std::size_t count, std::uint64_t seed);

}  // namespace autoglm
