// Cut whole FFN channels and query heads, then repair what read them.
//
// Which rows and columns go together: coupled_rows.h; which of them go:
// importance.h; how many in which layer: options.h, width_allocation.h. Each
// key/value group loses the same number of query heads, so that grouped
// attention keeps its shape, or goes as a whole; where every query head has a
// key and a value of its own, they go with it. Every expert of a mixture loses
// channels of its own choice, all the same number; routers stay. The matrix
// that read the removed channels is fitted again by least squares (ZipLM, arXiv
// 2302.04089; AMC, arXiv 1802.03494): inputs from the pruned stream, targets
// from the original.
#include <map>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/passes/pass.h"
#include "passes/pruning/options.h"
#include "passes/pruning/prune_block.h"
#include "passes/pruning/unit_gradients.h"
#include "passes/pruning/width_allocation.h"

namespace autoglm::passes {
namespace {

class StructuredPruning final : public Pass {
 public:
  using Options = PruningOptions;

  explicit StructuredPruning(Options options) : options_(std::move(options)) {}
  void run(Model& model, PassContext& context) const override;
  void plan(Model& shapes) const override;
  ConfigNode resolved_params() const override {
    return options_to_config(options_);
  }

 private:
  bool own_widths() const {
    return options_.allocation != "uniform" || options_.threshold > 0;
  }
  std::vector<BlockEvidence> gather(
      const Model& model, const PassContext& context,
      const std::vector<PruningTarget>& targets) const;

  Options options_;
};

// Throws kConfig where the result would not be what stock loaders read.
void check_uniform(const Model& model,
                   const std::vector<PruningTarget>& targets) {
  std::map<bool, std::set<std::vector<std::int64_t>>> kinds;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const BlockWidths& w = targets[i].widths;
    kinds[model.blocks[i].is_mixture()].insert({w.ffn, w.shared_ffn});
  }
  for (const auto& [mixture, widths] : kinds)
    if (widths.size() > 1)
      fail(ErrorKind::kConfig,
           "structured_pruning: uniform: true, but layers end with different "
           "FFN widths; select all layers and allocation: uniform");
  for (const PruningTarget& target : targets)
    if (target.widths.query_heads != targets[0].widths.query_heads ||
        target.widths.kv_heads != targets[0].widths.kv_heads)
      fail(ErrorKind::kConfig,
           "structured_pruning: uniform: true, but layers end with different "
           "numbers of heads; select all layers and allocation: uniform");
}

std::vector<BlockEvidence> StructuredPruning::gather(
    const Model& model, const PassContext& context,
    const std::vector<PruningTarget>& targets) const {
  std::vector<BlockEvidence> out(model.blocks.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i].seed = derive_seed(context.seed, fmt::format("layers.{}", i));
  if (!context.calibration.defined()) return out;
  const Importance importance = importance_named(options_.importance);
  const at::Tensor windows = context.calibration.to(context.device);
  const auto wanted = [&](const std::string& name) {
    const auto layer = static_cast<std::size_t>(std::stoul(name.substr(7)));
    const bool attention = name.find(".attention.") != std::string::npos;
    const bool own = attention ? targets[layer].heads : targets[layer].ffn;
    return own || own_widths();
  };
  if (needs_gradients(importance)) {
    const auto scores = unit_gradients(model, windows, context.prefix,
                                       importance == Importance::kTaylor
                                           ? GradientScore::kTaylor
                                           : GradientScore::kFisher,
                                       context.seed, wanted);
    for (std::size_t i = 0; i < out.size(); ++i) out[i].gradients = scores[i];
  }
  if (!options_.fisher) return out;
  const FisherOptions fisher = {
      .batch = 8, .seed = context.seed, .wanted = [&](const std::string& name) {
        return (name.ends_with("attention.output") || name.ends_with("down")) &&
               name.find(".experts.") == std::string::npos && wanted(name);
      }};
  Progress progress("fisher information", (windows.size(0) + 7) / 8, "batches");
  std::vector<BlockFisher> found = output_fisher(
      model, windows, context.prefix, fisher, [&] { progress.step(); });
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i].fisher = std::move(found[i]);
  return out;
}

void StructuredPruning::run(Model& model, PassContext& context) const {
  const at::Device home = device(model.embedding);
  std::vector<PruningTarget> wanted = uniform_targets(model, options_);
  Model work = to_device(model, context.device);
  PruningMethod method = {importance_named(options_.importance),
                          repair_named(options_.repair), options_.new_biases};
  if (!context.calibration.defined()) {
    method.repair = RepairKind::kNone;
    if (without_data(method.importance) != method.importance) {
      method.importance = without_data(method.importance);
      log_warning(
          "structured_pruning: no calibration data; importance is l1 and "
          "nothing is repaired");
    } else {
      log_warning(
          "structured_pruning: no calibration data; nothing is repaired");
    }
  }
  const std::vector<BlockEvidence> evidence = gather(work, context, wanted);
  if (own_widths())
    wanted = allocate_widths(work, context, options_, method, evidence, wanted);
  if (options_.uniform) check_uniform(work, wanted);
  Json notes = Json::array();
  Progress progress("structured pruning", model.architecture.layers(),
                    "blocks");
  const auto one = [&](const BlockVisit* visit, std::size_t layer) {
    Json note = {{"layer", layer}};
    Block out = prune_block(work, visit, work.blocks[layer], wanted[layer],
                            method, evidence[layer], note);
    notes.push_back(std::move(note));
    progress.step();
    return out;
  };
  if (context.calibration.defined()) {
    walk_blocks(work, work.embedding, context.calibration.to(context.device), 8,
                [&](const BlockVisit& visit) {
                  return one(&visit, static_cast<std::size_t>(visit.layer));
                });
  } else {
    for (std::size_t i = 0; i < work.blocks.size(); ++i)
      work.blocks[i] = one(nullptr, i);
  }
  update_widths(work);
  model = to_device(work, home);
  context.note("layers", std::move(notes));
}

void StructuredPruning::plan(Model& shapes) const {
  const std::vector<PruningTarget> wanted = uniform_targets(shapes, options_);
  if (options_.uniform) {
    check_uniform(shapes, wanted);
    if (own_widths() || options_.new_biases || options_.repair == "bias")
      fail(ErrorKind::kConfig,
           "structured_pruning: uniform: true does not go with allocation: "
           "global or sensitivity, threshold, new_biases or repair: bias");
  }
  for (std::size_t i = 0; i < wanted.size(); ++i)
    narrow_block(shapes.architecture, shapes.blocks[i], wanted[i]);
  update_widths(shapes);
}

}  // namespace

PassInfo structured_pruning() {
  return describe_pass<StructuredPruning>(
      "structured_pruning", "remove FFN channels and query heads, with repair");
}

}  // namespace autoglm::passes
