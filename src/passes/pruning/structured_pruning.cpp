// Cut whole FFN channels and query heads, then repair what read them.
//
// Which rows and columns go together: coupled_rows.h; which of them go:
// importance.h. Each key/value group loses the same number of query heads, so
// that grouped attention keeps its shape; where every query head has a key and
// a value of its own, they go with it. Every expert of a mixture loses channels
// of its own choice, all the same number; routers stay. All selected blocks of
// one kind get the same widths, which is what stock loaders can read. The
// matrix that read the removed channels is fitted again by least squares
// (ZipLM, arXiv 2302.04089; AMC, arXiv 1802.03494): inputs from the pruned
// stream, targets from the original. In sandwich-norm families the target is
// the sublayer's output before its norm, which can hide a scale but not a
// direction.
#include <algorithm>
#include <cmath>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/passes/pass.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/prune_block.h"

namespace autoglm::passes {
namespace {

class StructuredPruning final : public Pass {
 public:
  struct Options {
    double sparsity_ratio = 0.2;
    std::vector<std::string> target_layers = {"encoder.block.*"};
    std::string importance = "activation";
    std::int64_t align = 0;
    bool heads = true;
    bool ffn = true;
    bool repair = true;

    template <class Field>
    void visit(Field&& field) {
      field("sparsity_ratio", sparsity_ratio,
            "share of channels and query heads to remove", Range{0, 0.9});
      field("target_layers", target_layers,
            "blocks to prune; globs over layer names");
      field("importance", importance,
            "activation: weight norm times rms of the input; l1: weights only",
            Choices{"activation", "l1"});
      field("align", align,
            "FFN widths are multiples of this; 0: 256, 64, 8 or 1 by width",
            Range{0, 4096});
      field("heads", heads, "remove query heads");
      field("ffn", ffn, "remove FFN channels");
      field("repair", repair,
            "fit down and output again to the original's outputs");
    }
  };

  explicit StructuredPruning(Options options) : options_(std::move(options)) {}
  void run(Model& model, PassContext& context) const override;
  void plan(Model& shapes) const override;
  ConfigNode resolved_params() const override {
    return options_to_config(options_);
  }

 private:
  std::vector<PruningTarget> targets(const Model& model) const;
  BlockWidths target_widths(const BlockWidths& from, bool heads,
                            bool ffn) const;
  // Of an FFN that was `ffn` wide.
  std::int64_t kept_ffn(std::int64_t ffn) const;

  Options options_;
};

std::int64_t automatic_alignment(std::int64_t ffn) {
  // 256 suits every low-bit kernel and loader; small models cannot afford it.
  return ffn >= 4096 ? 256 : ffn >= 256 ? 64 : ffn >= 64 ? 8 : 1;
}

// The multiple of `unit` nearest to the share that stays; at least one unit.
std::int64_t kept_width(std::int64_t width, double ratio, std::int64_t unit) {
  if (ratio == 0) return width;
  const double wanted = static_cast<double>(width) * (1 - ratio);
  const auto units = static_cast<std::int64_t>(
      std::llround(wanted / static_cast<double>(unit)));
  return std::min(width, std::max<std::int64_t>(1, units) * unit);
}

// Throws kConfig where a matrix that is to be cut is quantized.
void check_dense(const Architecture& a, const Block& block, std::size_t layer,
                 const PruningTarget& target) {
  std::set<std::string> cut;
  if (target.heads) {
    const at::Tensor none =
        at::empty({0}, at::TensorOptions(at::kLong).device(at::kMeta));
    for (const Rows& part : head_rows(a, block, none)) cut.insert(part.name);
    cut.insert("attention.output");
  }
  visit_block(
      block,
      [&](const std::string& name, const Linear& part) {
        if (!std::holds_alternative<DenseWeight>(part.weight) &&
            (cut.contains(name) || (target.ffn && name.starts_with("mlp."))))
          fail(ErrorKind::kConfig,
               fmt::format("structured_pruning: layers.{}.{} is quantized; put "
                           "pruning before quantization",
                           layer, name));
      },
      [](const std::string&, const at::Tensor&) {});
}

std::int64_t StructuredPruning::kept_ffn(std::int64_t ffn) const {
  return kept_width(
      ffn, options_.sparsity_ratio,
      options_.align > 0 ? options_.align : automatic_alignment(ffn));
}

BlockWidths StructuredPruning::target_widths(const BlockWidths& from,
                                             bool heads, bool ffn) const {
  const double ratio = options_.sparsity_ratio;
  BlockWidths to = from;
  if (heads && from.query_heads == from.kv_heads)
    to.query_heads = to.kv_heads = kept_width(from.query_heads, ratio, 1);
  else if (heads)
    to.query_heads =
        from.kv_heads * kept_width(from.query_heads / from.kv_heads, ratio, 1);
  if (!ffn) return to;
  to.ffn = kept_ffn(from.ffn);
  // Stock loaders take shared experts to be a whole number of routed ones.
  if (from.shared_ffn > 0)
    to.shared_ffn = from.shared_ffn % from.ffn == 0
                        ? to.ffn * (from.shared_ffn / from.ffn)
                        : kept_ffn(from.shared_ffn);
  return to;
}

std::vector<PruningTarget> StructuredPruning::targets(
    const Model& model) const {
  const std::vector<std::string> selected =
      select_linears(model, options_.target_layers);
  const auto any = [&](std::size_t layer, const char* part) {
    const std::string prefix = fmt::format("layers.{}.{}.", layer, part);
    return std::any_of(
        selected.begin(), selected.end(),
        [&](const std::string& name) { return name.starts_with(prefix); });
  };
  const Architecture& a = model.architecture;
  std::vector<PruningTarget> out(model.blocks.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const BlockWidths& from = a.blocks[i];
    PruningTarget& target = out[i];
    target.widths = target_widths(from, options_.heads && any(i, "attention"),
                                  options_.ffn && any(i, "mlp"));
    target.heads = target.widths.query_heads != from.query_heads;
    target.ffn = target.widths.ffn != from.ffn ||
                 target.widths.shared_ffn != from.shared_ffn;
    check_dense(a, model.blocks[i], i, target);
  }
  return out;
}

void StructuredPruning::run(Model& model, PassContext& context) const {
  const at::Device home = device(model.embedding);
  const std::vector<PruningTarget> wanted = targets(model);
  Model work = to_device(model, context.device);
  const PruningMethod method = {options_.importance == "activation",
                                options_.repair};
  Json notes = Json::array();
  Progress progress("structured pruning", model.architecture.layers(),
                    "blocks");
  const auto one = [&](const BlockVisit* visit, std::size_t layer) {
    Json note = {{"layer", layer}};
    Block out = prune_block(work, visit, work.blocks[layer], wanted[layer],
                            method, note);
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
    log_warning(
        "structured_pruning: no calibration data; importance is l1 and "
        "nothing is repaired");
    for (std::size_t i = 0; i < work.blocks.size(); ++i)
      work.blocks[i] = one(nullptr, i);
  }
  update_widths(work);
  model = to_device(work, home);
  context.note("layers", std::move(notes));
}

void StructuredPruning::plan(Model& shapes) const {
  const std::vector<PruningTarget> wanted = targets(shapes);
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
