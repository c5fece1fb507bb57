#include "passes/pruning/width_allocation.h"

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "passes/allocation.h"
#include "passes/divergence_probe.h"

namespace autoglm {
namespace {

// Calibration windows that measure divergences.
constexpr std::int64_t kProbeWindows = 16;

struct Unit {
  std::size_t layer;
  Part part;
  std::vector<BlockWidths> levels;        // the widest first
  std::vector<std::uint64_t> parameters;  // of the block
  std::vector<double> damage;
};

std::int64_t units_of(const BlockWidths& w, Part part) {
  return part == Part::kAttention ? w.query_heads : w.ffn;
}

// Means over what reads the units, in ascending order: what goes first.
std::vector<double> sorted_scores(
    const std::map<std::string, at::Tensor>& readers) {
  at::Tensor sum;
  double count = 0;
  for (const auto& [name, scores] : readers) {
    // A shared expert keeps the share that routed ones keep.
    if (name == "mlp.shared.down" && readers.size() > 1) continue;
    const at::Tensor sorted =
        std::get<0>(at::sort(scores.to(at::kDouble).cpu()));
    sum = sum.defined() ? sum + sorted : sorted;
    count += 1;
  }
  const at::Tensor mean = (sum / count).contiguous();
  return {mean.const_data_ptr<double>(),
          mean.const_data_ptr<double>() + mean.numel()};
}

class WidthAllocation {
 public:
  WidthAllocation(const Model& model, PassContext& context,
                  const PruningOptions& options, const PruningMethod& method,
                  const std::vector<BlockEvidence>& evidence,
                  const std::vector<PruningTarget>& uniform);
  std::vector<PruningTarget> run();

 private:
  void measure(const BlockVisit& visit, Unit& unit, DivergenceProbe& probe);
  void sum_scores(const BlockVisit* visit, Unit& unit);
  void walk(const std::function<void(const BlockVisit*, Unit&)>& visit);
  std::vector<std::size_t> chosen() const;

  const Model& model_;
  PassContext& context_;
  const PruningOptions& options_;
  const PruningMethod& method_;
  const std::vector<BlockEvidence>& evidence_;
  const std::vector<PruningTarget>& uniform_;
  std::vector<Unit> units_;
  std::uint64_t budget_ = 0;  // parameters of the units, of both parts' blocks
};

WidthAllocation::WidthAllocation(const Model& model, PassContext& context,
                                 const PruningOptions& options,
                                 const PruningMethod& method,
                                 const std::vector<BlockEvidence>& evidence,
                                 const std::vector<PruningTarget>& uniform)
    : model_(model),
      context_(context),
      options_(options),
      method_(method),
      evidence_(evidence),
      uniform_(uniform) {
  // Of mixtures with the experts that are to stay.
  Model shapes = to_device(model, at::kMeta);
  for (std::size_t i = 0; i < uniform.size(); ++i)
    narrow_block(shapes.architecture, shapes.blocks[i],
                 {false, false, uniform[i].widths, uniform[i].experts});
  for (std::size_t i = 0; i < uniform.size(); ++i)
    for (const Part part : {Part::kAttention, Part::kMlp}) {
      // Heads that rounding leaves alone at this ratio may still go.
      const bool selected =
          uniform[i].cuts(part) ||
          (part == Part::kAttention && uniform[i].ffn && options.heads);
      if (!selected) continue;
      Unit unit = {i,
                   part,
                   width_levels(model.architecture.blocks[i], part, options),
                   {},
                   {}};
      for (const BlockWidths& to : unit.levels)
        unit.parameters.push_back(
            parameters_at(shapes, i, part_target(model, i, part, to)));
      BlockWidths own = model.architecture.blocks[i];
      if (part == Part::kAttention) {
        own.query_heads = uniform[i].widths.query_heads;
        own.kv_heads = uniform[i].widths.kv_heads;
      } else {
        own.ffn = uniform[i].widths.ffn;
        own.shared_ffn = uniform[i].widths.shared_ffn;
      }
      budget_ += parameters_at(shapes, i, part_target(model, i, part, own));
      units_.push_back(std::move(unit));
    }
}

void WidthAllocation::measure(const BlockVisit& visit, Unit& unit,
                              DivergenceProbe& probe) {
  const std::vector<BlockWidths> cuts(unit.levels.begin() + 1,
                                      unit.levels.end());
  std::vector<Json> notes(cuts.size(), Json::object());
  unit.damage = {0};
  for (const Block& block :
       prune_part(model_, &visit, model_.blocks[unit.layer], unit.part, cuts,
                  method_, evidence_[unit.layer], notes)) {
    const double damage = probe.with_block(unit.layer, block);
    if (!std::isfinite(damage))
      fail(ErrorKind::kNumeric,
           fmt::format("structured_pruning: with layers.{} cut the predictions "
                       "are not finite",
                       unit.layer));
    // A narrower part that did better by chance counts as equal.
    unit.damage.push_back(std::max(damage, unit.damage.back()));
  }
}

void WidthAllocation::sum_scores(const BlockVisit* visit, Unit& unit) {
  const std::vector<double> scores =
      sorted_scores(part_scores(model_, visit, model_.blocks[unit.layer],
                                unit.part, method_, evidence_[unit.layer]));
  double mean = 0;
  for (const double score : scores) mean += score;
  mean /= static_cast<double>(scores.size());
  const BlockWidths& from = unit.levels.front();
  if (options_.threshold > 0) {
    std::int64_t stays = 0;
    for (const double score : scores)
      stays += score >= options_.threshold * mean ? 1 : 0;
    unit.levels = {width_for(from, unit.part, stays, options_)};
    unit.damage = {0};
    return;
  }
  const bool of_loss = needs_gradients(method_.importance);
  for (const BlockWidths& to : unit.levels) {
    double gone = 0;
    const std::int64_t cut =
        units_of(from, unit.part) - units_of(to, unit.part);
    for (std::int64_t i = 0; i < cut; ++i)
      gone += scores[static_cast<std::size_t>(i)];
    unit.damage.push_back(of_loss || mean <= 0 ? gone : gone / mean);
  }
}

void WidthAllocation::walk(
    const std::function<void(const BlockVisit*, Unit&)>& visit) {
  Progress progress("allocation", static_cast<std::int64_t>(units_.size()),
                    "parts");
  const auto layer = [&](const BlockVisit* place, std::size_t i) {
    for (Unit& unit : units_)
      if (unit.layer == i) {
        visit(place, unit);
        progress.step();
      }
  };
  if (!context_.calibration.defined()) {
    for (std::size_t i = 0; i < model_.blocks.size(); ++i) layer(nullptr, i);
    return;
  }
  Model same = model_;
  walk_blocks(same, same.embedding,
              context_.calibration.to(device(model_.embedding)), 8,
              [&](const BlockVisit& place) {
                layer(&place, static_cast<std::size_t>(place.layer));
                return place.original;
              });
}

std::vector<std::size_t> WidthAllocation::chosen() const {
  if (options_.threshold > 0) return std::vector<std::size_t>(units_.size(), 0);
  std::vector<std::vector<Choice>> choices;
  for (const Unit& unit : units_) {
    choices.emplace_back();
    for (std::size_t l = 0; l < unit.levels.size(); ++l)
      choices.back().push_back(
          {static_cast<int>(l), unit.parameters[l], unit.damage[l]});
  }
  return allocate(choices, budget_).chosen;
}

std::vector<PruningTarget> WidthAllocation::run() {
  if (options_.allocation == "sensitivity" && options_.threshold == 0) {
    if (!context_.calibration.defined())
      fail(
          ErrorKind::kConfig,
          "structured_pruning: allocation: sensitivity needs calibration text");
    DivergenceProbe probe(model_,
                          spread_windows(context_.calibration, kProbeWindows)
                              .to(device(model_.embedding)),
                          context_.prefix);
    walk([&](const BlockVisit* visit, Unit& unit) {
      measure(*visit, unit, probe);
    });
  } else {
    walk([&](const BlockVisit* visit, Unit& unit) { sum_scores(visit, unit); });
  }
  const std::vector<std::size_t> levels = chosen();
  std::vector<PruningTarget> out;
  for (std::size_t i = 0; i < model_.blocks.size(); ++i) {
    out.push_back({false, false, model_.architecture.blocks[i]});
    out[i].experts = uniform_[i].experts;
    out[i].widths.experts = uniform_[i].widths.experts;
  }
  Json notes = Json::array();
  for (std::size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    const BlockWidths& to = unit.levels[levels[u]];
    PruningTarget& target = out[unit.layer];
    const bool changes = !(to == model_.architecture.blocks[unit.layer]);
    if (unit.part == Part::kAttention) {
      target.heads = changes;
      target.widths.query_heads = to.query_heads;
      target.widths.kv_heads = to.kv_heads;
    } else {
      target.ffn = changes;
      target.widths.ffn = to.ffn;
      target.widths.shared_ffn = to.shared_ffn;
    }
    Json widths = Json::array();
    for (std::size_t l = 0; l < unit.levels.size(); ++l)
      widths.push_back({{"width", units_of(unit.levels[l], unit.part)},
                        {"damage", unit.damage[l]}});
    notes.push_back(
        {{"layer", unit.layer},
         {"part", unit.part == Part::kAttention ? "attention" : "mlp"},
         {"widths", std::move(widths)},
         {"width", units_of(to, unit.part)}});
  }
  context_.note("allocation", std::move(notes));
  return out;
}

}  // namespace

std::vector<PruningTarget> allocate_widths(
    const Model& model, PassContext& context, const PruningOptions& options,
    const PruningMethod& method, const std::vector<BlockEvidence>& evidence,
    const std::vector<PruningTarget>& uniform) {
  return WidthAllocation(model, context, options, method, evidence, uniform)
      .run();
}

}  // namespace autoglm
