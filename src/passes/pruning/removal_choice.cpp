#include "passes/pruning/removal_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autoglm/core/error.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

void insert_sorted(std::vector<std::size_t>& list, std::size_t value) {
  list.insert(std::upper_bound(list.begin(), list.end(), value), value);
}

void note_removed(RemovalChoice& choice, const RemovalUnit& unit) {
  choice.units.push_back(unit);
  choice.removed.push_back(
      {{"step", choice.units.size()}, {"removed", unit_name(unit)}});
}

}  // namespace

bool Remover::may_remove(const RemovalUnit& unit) const {
  if (!unit.part) {
    std::vector<std::size_t> all = blocks_;
    insert_sorted(all, unit.layer);
    if (!can_remove_blocks(model_.architecture, all)) return false;
  }
  const Block left = without_unit(model_.blocks[unit.layer], unit);
  bool attention = left.has_attention(), mlp = left.has_mlp();
  for (std::size_t i = 0; i < model_.blocks.size(); ++i)
    if (i != unit.layer) {
      attention = attention || model_.blocks[i].has_attention();
      mlp = mlp || model_.blocks[i].has_mlp();
    }
  return attention && mlp;
}

void Remover::remove(const RemovalUnit& unit) {
  Block& block = model_.blocks[unit.layer];
  block = without_unit(block, unit);
  if (!unit.part) insert_sorted(blocks_, unit.layer);
}

Model without_units(const Model& model, const RemovalUnits& units) {
  Model out = model;
  std::vector<std::size_t> blocks;
  for (const RemovalUnit& unit : units)
    if (unit.part)
      out.blocks[unit.layer] = without_part(out.blocks[unit.layer], *unit.part);
    else
      insert_sorted(blocks, unit.layer);
  out = without_blocks(out, blocks);
  update_widths(out);
  return out;
}

RemovalChoice greedy_removal(const Model& model, const RemovalUnits& units,
                             const GreedyRule& rule, const ScoreUnits& score) {
  RemovalChoice out;
  out.scores = Json::object();
  Remover remover(model);
  std::vector<bool> gone(units.size(), false);
  const auto beside_a_gap = [&](std::size_t u) {
    return (u > 0 && gone[u - 1]) || (u + 1 < gone.size() && gone[u + 1]);
  };
  while (out.units.size() < rule.count) {
    std::vector<std::size_t> left;
    RemovalUnits trials;
    for (std::size_t u = 0; u < units.size(); ++u)
      if (!gone[u] && remover.may_remove(units[u])) {
        left.push_back(u);
        trials.push_back(units[u]);
      }
    if (trials.empty()) break;
    const std::vector<double> found = score(remover.emptied(), trials);
    AUTOGLM_ENSURE(found.size() == trials.size());
    const std::string step = fmt::format("step {}", out.units.size() + 1);
    std::size_t best = 0;
    double best_cost = 0;
    for (std::size_t t = 0; t < trials.size(); ++t) {
      if (!std::isfinite(found[t]))
        fail(ErrorKind::kNumeric,
             fmt::format("layer_removal: without {} the predictions are not "
                         "finite",
                         unit_name(trials[t])));
      out.scores[unit_name(trials[t])][step] = found[t];
      const double cost =
          found[t] * (beside_a_gap(left[t]) ? rule.neighbour_penalty : 1);
      if (t > 0 && cost >= best_cost) continue;
      best = t;
      best_cost = cost;
    }
    if (rule.threshold > 0 && best_cost >= rule.threshold) break;
    gone[left[best]] = true;
    remover.remove(trials[best]);
    note_removed(out, trials[best]);
    out.removed.back()["score"] = found[best];
  }
  return out;
}

RemovalChoice best_run(const Model& model, const RemovalUnits& units,
                       std::size_t count,
                       const std::vector<double>& distances) {
  RemovalChoice out;
  out.scores = Json::array();
  std::optional<std::size_t> best;  // of `units`, where the run begins
  for (std::size_t u = 0; u + count <= units.size(); ++u) {
    const std::size_t first = units[u].layer;
    if (units[u + count - 1].layer != first + count - 1) continue;
    std::vector<std::size_t> layers(count);
    std::iota(layers.begin(), layers.end(), first);
    if (!can_remove_blocks(model.architecture, layers)) continue;
    out.scores.push_back(
        {{"first", unit_name(units[u])}, {"distance", distances.at(first)}});
    if (!best || distances[first] < distances[units[*best].layer]) best = u;
  }
  if (!best)
    fail(ErrorKind::kConfig,
         fmt::format("layer_removal: there is no run of {} neighbouring blocks "
                     "that may go",
                     count));
  for (std::size_t i = 0; i < count; ++i) note_removed(out, units[*best + i]);
  return out;
}

RemovalChoice random_removal(const Model& model, const RemovalUnits& units,
                             std::size_t count, std::uint64_t seed) {
  RemovalChoice out;
  Remover remover(model);
  Rng rng(seed);
  for (const std::int64_t u :
       rng.permutation(static_cast<std::int64_t>(units.size()))) {
    const RemovalUnit& unit = units[static_cast<std::size_t>(u)];
    if (out.units.size() == count) break;
    if (!remover.may_remove(unit)) continue;
    remover.remove(unit);
    note_removed(out, unit);
  }
  return out;
}

}  // namespace autoglm
