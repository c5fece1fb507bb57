// Cut whole FFN channels, query heads, experts and channels of the residual
// stream, then repair what read them.
//
// Which rows and columns go together: coupled_rows.h; which of them go:
// importance.h; how many in which layer: options.h, width_allocation.h. Each
// key/value group loses the same number of query heads, so that grouped
// attention keeps its shape, or goes as a whole; where every query head has a
// key and a value of its own, they go with it. Every expert of a mixture loses
// channels of its own choice, all the same number; whole experts go with their
// rows of the router (experts.h). The residual stream loses the same channels
// in all blocks, before anything else (hidden_width.h). The matrix that read
// the removed channels is fitted again by least squares (ZipLM, arXiv
// 2302.04089; AMC, arXiv 1802.03494): inputs from the pruned stream, targets
// from the original.
#include <algorithm>
#include <map>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/model/depth.h"
#include "autoglm/model/footprint.h"
#include "autoglm/passes/pass.h"
#include "passes/pruning/hidden_channels.h"
#include "passes/pruning/hidden_width.h"
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
      const PruningMethod& method,
      const std::vector<PruningTarget>& targets) const;
  PruningMethod method(const PassContext& context) const;
  Json prune_blocks(Model& work, const PassContext& context,
                    const PruningMethod& method,
                    const std::vector<BlockEvidence>& evidence,
                    const std::vector<PruningTarget>& targets) const;

  Options options_;
};

// Throws kConfig where the result would not be what stock loaders read.
void check_uniform(const Model& model,
                   const std::vector<PruningTarget>& targets) {
  std::map<bool, std::set<std::vector<std::int64_t>>> kinds;
  std::set<std::int64_t> experts;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const BlockWidths& w = targets[i].widths;
    kinds[model.blocks[i].is_mixture()].insert({w.ffn, w.shared_ffn});
    if (model.blocks[i].is_mixture()) experts.insert(w.experts);
  }
  if (experts.size() > 1)
    fail(ErrorKind::kConfig,
         "structured_pruning: uniform: true, but layers end with different "
         "numbers of routed experts; select all of them");
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

// config.json has one number of experts and one hidden size for all blocks,
// those after the last one included, which this pass does not cut.
Model without_misfits(Model model, const Architecture& before) {
  const auto most = [](const Architecture& a) {
    std::int64_t out = 0;
    for (const BlockWidths& w : a.blocks) out = std::max(out, w.experts);
    return out;
  };
  if (model.architecture.next_token_blocks == 0 ||
      most(model.architecture) == most(before))
    return model;
  return without_next_token_blocks(std::move(model));
}

// A model of meta tensors with the widths of `targets`.
Model narrow_model(Model shapes, const std::vector<PruningTarget>& targets) {
  for (std::size_t i = 0; i < targets.size(); ++i)
    narrow_block(shapes.architecture, shapes.blocks[i], targets[i]);
  const Architecture before = shapes.architecture;
  update_widths(shapes);
  return without_misfits(std::move(shapes), before);
}

// A model of meta tensors with the hidden width that is wanted.
Model narrow_shapes(Model shapes, const PruningOptions& options) {
  const std::int64_t left = hidden_left(shapes.architecture.hidden, options);
  if (left == shapes.architecture.hidden) return shapes;
  check_hidden_dense(shapes);
  return keep_hidden(std::move(shapes), at::arange(left, at::kLong));
}

// A share that rounds to nothing is easily taken for a mistake.
void tell_rounding(const Model& model, const Model& shapes,
                   const std::vector<PruningTarget>& targets,
                   const PruningOptions& options) {
  if (options.hidden > 0 &&
      shapes.architecture.hidden == model.architecture.hidden)
    log_warning(
        "structured_pruning: hidden: {} of {} channels rounds to none; a lower "
        "align allows finer steps",
        options.hidden, model.architecture.hidden);
  if (options.experts > 0 &&
      std::none_of(targets.begin(), targets.end(),
                   [](const PruningTarget& t) { return t.experts; }))
    log_warning(
        "structured_pruning: experts: {} takes none away; a token needs {} of "
        "them",
        options.experts, model.architecture.router.per_token);
}

std::vector<BlockEvidence> StructuredPruning::gather(
    const Model& model, const PassContext& context, const PruningMethod& method,
    const std::vector<PruningTarget>& targets) const {
  std::vector<BlockEvidence> out(model.blocks.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i].seed = derive_seed(context.seed, fmt::format("layers.{}", i));
  if (!context.calibration.defined()) return out;
  const Importance importance = method.importance;
  const at::Tensor windows = context.calibration.to(context.device);
  const auto wanted = [&](const std::string& name) {
    const auto layer = static_cast<std::size_t>(std::stoul(name.substr(7)));
    const bool attention = name.find(".attention.") != std::string::npos;
    const bool routed = name.find(".experts.") != std::string::npos;
    const bool own = attention ? targets[layer].heads : targets[layer].ffn;
    return own || own_widths() || (routed && targets[layer].experts);
  };
  if (needs_gradients(importance)) {
    const auto scores = unit_gradients(model, windows, context.prefix,
                                       importance == Importance::kTaylor
                                           ? GradientScore::kTaylor
                                           : GradientScore::kFisher,
                                       context.seed, wanted);
    for (std::size_t i = 0; i < out.size(); ++i) out[i].gradients = scores[i];
  }
  if (!options_.fisher || !method.needs_data()) return out;
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

// What is asked for, or what is possible without data.
PruningMethod StructuredPruning::method(const PassContext& context) const {
  PruningMethod out = {importance_named(options_.importance),
                       repair_named(options_.repair), options_.new_biases};
  if (context.calibration.defined()) return out;
  out.repair = RepairKind::kNone;
  if (without_data(out.importance) != out.importance) {
    out.importance = without_data(out.importance);
    log_warning(
        "structured_pruning: no calibration data; importance is l1 and nothing "
        "is repaired");
  } else {
    log_warning("structured_pruning: no calibration data; nothing is repaired");
  }
  return out;
}

Json StructuredPruning::prune_blocks(
    Model& work, const PassContext& context, const PruningMethod& method,
    const std::vector<BlockEvidence>& evidence,
    const std::vector<PruningTarget>& targets) const {
  Json notes = Json::array();
  Progress progress("structured pruning", work.architecture.layers(), "blocks");
  const auto one = [&](const BlockVisit* visit, std::size_t layer) {
    Json note = {{"layer", layer}};
    Block out = prune_block(work, visit, work.blocks[layer], targets[layer],
                            method, evidence[layer], note);
    notes.push_back(std::move(note));
    progress.step();
    return out;
  };
  const bool walk =
      std::any_of(targets.begin(), targets.end(), [&](const PruningTarget& t) {
        return t.experts || ((t.heads || t.ffn) && method.needs_data());
      });
  if (context.calibration.defined() && walk) {
    walk_blocks(work, work.embedding, context.calibration.to(context.device), 8,
                [&](const BlockVisit& visit) {
                  return one(&visit, static_cast<std::size_t>(visit.layer));
                });
  } else {
    for (std::size_t i = 0; i < work.blocks.size(); ++i)
      work.blocks[i] = one(nullptr, i);
  }
  return notes;
}

void StructuredPruning::run(Model& model, PassContext& context) const {
  const at::Device home = device(model.embedding);
  const Model shapes = narrow_shapes(to_device(model, at::kMeta), options_);
  std::vector<PruningTarget> wanted = uniform_targets(shapes, options_);
  tell_rounding(model, shapes, wanted, options_);
  const PruningMethod how = method(context);
  Model work = to_device(model, context.device);
  if (const std::int64_t left = shapes.architecture.hidden;
      left < model.architecture.hidden) {
    Json note = Json::object();
    work = narrow_stream(work, context, how, left, note);
    context.note("hidden", std::move(note));
  }
  const std::vector<BlockEvidence> evidence =
      gather(work, context, how, wanted);
  if (own_widths())
    wanted = allocate_widths(work, context, options_, how, evidence, wanted);
  if (options_.uniform) check_uniform(work, wanted);
  context.note("layers", prune_blocks(work, context, how, evidence, wanted));
  const Architecture before = work.architecture;
  update_widths(work);
  work = without_misfits(std::move(work), before);
  if (work.extra.size() < model.extra.size())
    log_warning(
        "structured_pruning: {} tensors beside the model, such as of layers "
        "that predict further tokens, do not fit the new widths; left out",
        model.extra.size() - work.extra.size());
  context.note(
      "parameters",
      {{"before", footprint(model).total().parameters},
       {"planned", footprint(narrow_model(shapes, wanted)).total().parameters},
       {"after", footprint(work).total().parameters}});
  model = to_device(work, home);
}

void StructuredPruning::plan(Model& shapes) const {
  shapes = narrow_shapes(std::move(shapes), options_);
  const std::vector<PruningTarget> wanted = uniform_targets(shapes, options_);
  if (options_.uniform) {
    check_uniform(shapes, wanted);
    if (own_widths() || options_.new_biases || options_.repair == "bias")
      fail(ErrorKind::kConfig,
           "structured_pruning: uniform: true does not go with allocation: "
           "global or sensitivity, threshold, new_biases or repair: bias");
  }
  shapes = narrow_model(std::move(shapes), wanted);
}

}  // namespace

PassInfo structured_pruning() {
  return describe_pass<StructuredPruning>(
      "structured_pruning",
      "remove FFN channels, heads, experts and hidden width, with repair");
}

}  // namespace autoglm::passes
