// Remove whole blocks, or the attention or the MLP of blocks.
//
// Removing everything that looks cheap alone goes wrong: two blocks that can
// stand in for each other both look cheap. So units go one at a time, and what
// is left is scored again in between (BlockPruner, arXiv 2406.10594): by what
// the predictions lose, measured (`kl`), or by how little a unit turns the
// stream (`block_influence`, ShortGPT, arXiv 2403.03853). A run of neighbours
// can be judged as a whole instead (`contiguous`, arXiv 2403.17887).
//
// Blocks that stay are counted anew, so that stock loaders read the result. A
// missing part is written as `skip` in per_layer_config.
#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/model/footprint.h"
#include "autoglm/passes/pass.h"
#include "passes/divergence_probe.h"
#include "passes/pruning/removal_choice.h"

namespace autoglm::passes {
namespace {

class LayerRemoval final : public Pass {
 public:
  struct Options {
    std::string unit = "block";
    AutoInt count;
    double sparsity_ratio = 0.1;
    double threshold = 0;
    std::string importance = "kl";
    double neighbour_penalty = 1;
    std::vector<std::string> target_layers = {"encoder.block.*"};
    std::int64_t windows = 32;

    template <class Field>
    void visit(Field&& field) {
      field("unit", unit,
            "what goes at once: whole blocks, the attention or the MLP of one, "
            "or either of them (parts)",
            Choices{"block", "attention", "mlp", "parts"});
      field("count", count,
            "how many go, at most if there is a threshold; auto: by "
            "sparsity_ratio, or whatever the threshold allows",
            Range{0, 100000});
      field("sparsity_ratio", sparsity_ratio,
            "share of the units that go, above 0 at least one; where count is "
            "auto and threshold 0",
            Range{0, 0.9});
      field("threshold", threshold,
            "above 0: units go as long as the next one's score, penalty "
            "included, is below it; nats of kl, or 1 - cos of block_influence",
            Range{0, 100});
      field("importance", importance,
            "kl: measured divergence from the model that came in, without the "
            "unit; block_influence: 1 - cos of the stream before and after it; "
            "both scored again after each removal; contiguous: the run of "
            "blocks that turns the stream least; random",
            Choices{"kl", "block_influence", "contiguous", "random"});
      field("neighbour_penalty", neighbour_penalty,
            "the score of a unit beside a removed one counts so many times: "
            "gaps grow only where nothing else is that much cheaper",
            Range{1, 1000});
      field("target_layers", target_layers,
            "blocks or parts that may go; globs over layer names. Of mixtures "
            "and dense blocks, only the kind with more of them");
      field("windows", windows, "calibration windows to score on; 0: all",
            Range{0, 100000});
    }
  };

  explicit LayerRemoval(Options options) : options_(std::move(options)) {}
  void run(Model& model, PassContext& context) const override;
  void plan(Model& shapes) const override;
  ConfigNode resolved_params() const override {
    return options_to_config(options_);
  }

 private:
  void check_options() const;
  RemovalUnits candidates(const Model& model) const;
  std::size_t wanted(const Model& model, const RemovalUnits& units) const;
  RemovalChoice choose(const Model& work, const RemovalUnits& units,
                       std::size_t count, const PassContext& context) const;

  Options options_;
};

void LayerRemoval::check_options() const {
  if (options_.threshold > 0 && options_.importance != "kl" &&
      options_.importance != "block_influence")
    fail(ErrorKind::kConfig,
         fmt::format("layer_removal: a threshold is for the importance kl and "
                     "block_influence, not for {}",
                     options_.importance));
  if (options_.importance == "contiguous" && options_.unit != "block")
    fail(ErrorKind::kConfig,
         fmt::format("layer_removal: the importance contiguous is for the unit "
                     "block, not for {}",
                     options_.unit));
}

RemovalUnits LayerRemoval::candidates(const Model& model) const {
  const std::vector<std::string> selected =
      select_linears(model, options_.target_layers);
  const auto any = [&](const std::string& prefix) {
    return std::any_of(
        selected.begin(), selected.end(),
        [&](const std::string& name) { return name.starts_with(prefix); });
  };
  const bool whole = options_.unit == "block";
  RemovalUnits units;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const std::string prefix = fmt::format("layers.{}.", i);
    if (whole && any(prefix)) units.push_back({i});
    for (const BlockPart part : {BlockPart::kAttention, BlockPart::kMlp})
      if (!whole &&
          (options_.unit == "parts" || options_.unit == part_name(part)) &&
          has_part(model.blocks[i], part) &&
          any(prefix + part_name(part) + "."))
        units.push_back({i, part});
  }
  if (options_.unit == "attention") return units;
  // The few dense blocks before the mixtures do another work; and sizes can be
  // told beforehand where all candidates are alike.
  const auto is_mixture = [&](const RemovalUnit& unit) {
    return model.blocks[unit.layer].is_mixture();
  };
  const std::size_t mixtures = static_cast<std::size_t>(
      std::count_if(units.begin(), units.end(), is_mixture));
  const bool kept_kind = 2 * mixtures >= units.size() && mixtures > 0;
  std::erase_if(units, [&](const RemovalUnit& unit) {
    return is_mixture(unit) != kept_kind;
  });
  return units;
}

std::size_t LayerRemoval::wanted(const Model& model,
                                 const RemovalUnits& units) const {
  // How many can go at most, whichever they are.
  Remover remover(model);
  std::size_t most = 0;
  for (const RemovalUnit& unit : units)
    if (remover.may_remove(unit)) {
      remover.remove(unit);
      ++most;
    }
  const double all = static_cast<double>(units.size());
  std::size_t count = most;
  if (options_.count.number)
    count = static_cast<std::size_t>(*options_.count.number);
  else if (options_.threshold == 0)
    count = options_.sparsity_ratio == 0
                ? 0
                : std::max<std::size_t>(
                      1, static_cast<std::size_t>(
                             std::llround(all * options_.sparsity_ratio)));
  if (count > most)
    fail(ErrorKind::kConfig,
         fmt::format("layer_removal: {} of {} {} cannot go; {} can", count,
                     units.size(),
                     options_.unit == "block"   ? "blocks"
                     : options_.unit == "parts" ? "parts"
                                                : options_.unit + " parts",
                     most));
  return count;
}

RemovalChoice LayerRemoval::choose(const Model& work, const RemovalUnits& units,
                                   std::size_t count,
                                   const PassContext& context) const {
  if (options_.importance == "random")
    return random_removal(work, units, count, context.seed);
  if (!context.calibration.defined())
    fail(ErrorKind::kConfig,
         fmt::format("layer_removal: the importance {} needs calibration text",
                     options_.importance));
  const std::int64_t all = context.calibration.size(0);
  const at::Tensor windows =
      spread_windows(context.calibration,
                     options_.windows == 0 ? all : options_.windows)
          .to(context.device);
  const std::int64_t prefix = context.prefix;
  if (options_.importance == "contiguous")
    return best_run(work, units, count,
                    angular_distances(work, windows, prefix, count));
  const GreedyRule rule = {count, options_.threshold,
                           options_.neighbour_penalty};
  Progress progress("layer removal", static_cast<std::int64_t>(count), "steps");
  if (options_.importance == "block_influence")
    return greedy_removal(
        work, units, rule, [&](const Model& now, const RemovalUnits& trials) {
          progress.step();
          return block_influence(now, windows, prefix, trials);
        });
  DivergenceProbe probe(work, windows, prefix);
  return greedy_removal(
      work, units, rule, [&](const Model& now, const RemovalUnits& trials) {
        probe.start_from(now);
        std::vector<double> out;
        for (const RemovalUnit& unit : trials) {
          progress.step(0, unit_name(unit));
          out.push_back(probe.with_block(
              unit.layer, without_unit(now.blocks[unit.layer], unit)));
        }
        progress.step();
        return out;
      });
}

void LayerRemoval::run(Model& model, PassContext& context) const {
  check_options();
  const RemovalUnits units = candidates(model);
  const std::size_t count = wanted(model, units);
  if (count == 0) return;
  RemovalChoice choice =
      choose(to_device(model, context.device), units, count, context);
  model = without_units(model, choice.units);
  context.note("removed", std::move(choice.removed));
  if (!choice.scores.empty()) context.note("scores", std::move(choice.scores));
}

void LayerRemoval::plan(Model& shapes) const {
  check_options();
  RemovalUnits units = candidates(shapes);
  const std::size_t count = wanted(shapes, units);
  // How many stay below a threshold is not known without the weights.
  if (options_.threshold > 0 || count == 0) return;
  // Nor is which ones go, where they differ: the smallest, so that the rest is
  // not estimated too small.
  const auto bytes_of = [&](const Block& block) {
    Model alone = shapes;
    alone.blocks = {block};
    return footprint(alone).layers[0].bytes;
  };
  std::vector<std::pair<std::uint64_t, RemovalUnit>> sized;
  for (const RemovalUnit& unit : units) {
    const Block& block = shapes.blocks[unit.layer];
    sized.emplace_back(bytes_of(block) - bytes_of(without_unit(block, unit)),
                       unit);
  }
  std::stable_sort(
      sized.begin(), sized.end(),
      [](const auto& a, const auto& b) { return a.first < b.first; });
  Remover remover(shapes);
  RemovalUnits smallest;
  for (const auto& [bytes, unit] : sized)
    if (smallest.size() < count && remover.may_remove(unit)) {
      remover.remove(unit);
      smallest.push_back(unit);
    }
  shapes = without_units(shapes, smallest);
}

}  // namespace

PassInfo layer_removal() {
  return describe_pass<LayerRemoval>(
      "layer_removal", "remove whole blocks, or their attention or MLP");
}

}  // namespace autoglm::passes
