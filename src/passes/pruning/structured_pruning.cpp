// Cut whole FFN channels and query heads, then repair what read them.
//
//   gate_up  rows j and F+j, down column j        for every channel j that goes
//   query    D rows (and bias), output D columns  for every head that goes
//
// Each key/value group loses the same number of query heads, so that grouped
// attention keeps its shape. All selected blocks get the same widths, which is
// what stock loaders can read. Importance of a channel with activations:
// |W_down[:, j]| * rms(x_j), as in Wanda-sp (arXiv 2306.11695) over columns; of
// a head the same over its dimensions. The matrix that read the removed
// channels is fitted again by least squares (ZipLM, arXiv 2302.04089; AMC,
// arXiv 1802.03494): inputs from the pruned stream, targets from the original.
// In sandwich-norm families the target is the sublayer's output before its
// norm, which can hide a scale but not a direction.
#include <algorithm>
#include <cmath>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/passes/pass.h"
#include "passes/pruning/repair.h"

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
  // What becomes of one block.
  struct Target {
    bool heads = false, ffn = false;
    BlockWidths widths = {};
  };
  std::vector<Target> targets(const Model& model) const;
  Block prune(const Model& model, const BlockVisit* visit, const Block& block,
              const Target& target, Json& note) const;
  void prune_heads(const Model& model, const BlockVisit* visit, Block& block,
                   const BlockWidths& to, Json& note) const;
  void prune_ffn(const Model& model, const BlockVisit* visit, Block& block,
                 const BlockWidths& to, Json& note) const;
  // What the matrix at `site` receives; none without data or need of it.
  std::optional<SplitMoments> moments_at(Site site, const Model& model,
                                         const BlockVisit* visit,
                                         const Block& block) const;
  // The columns `kept` of `weight`, repaired where there are moments.
  Weight keep_columns(const at::Tensor& weight, const at::Tensor& kept,
                      const std::optional<SplitMoments>& moments,
                      const std::string& error_name, Json& note) const;

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

const at::Tensor& dense(const Weight& weight) {
  return std::get<DenseWeight>(weight).value;
}

at::Tensor pick(const at::Tensor& tensor, std::int64_t dim,
                const at::Tensor& kept) {
  return tensor.defined() ? tensor.index_select(dim, kept) : tensor;
}

std::vector<StructuredPruning::Target> StructuredPruning::targets(
    const Model& model) const {
  std::set<std::string> selected;
  for (const std::string& name : select_linears(model, options_.target_layers))
    selected.insert(name);
  const std::vector<BlockWidths>& blocks = model.architecture.blocks;
  std::vector<Target> out(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto any = [&](std::initializer_list<const char*> parts) {
      return std::any_of(parts.begin(), parts.end(), [&](const char* part) {
        return selected.contains(fmt::format("layers.{}.{}", i, part));
      });
    };
    Target& target = out[i];
    target.widths = blocks[i];
    if (options_.heads && any({"attention.query", "attention.output"})) {
      const std::int64_t group = blocks[i].query_heads / blocks[i].kv_heads;
      target.widths.query_heads =
          blocks[i].kv_heads * kept_width(group, options_.sparsity_ratio, 1);
      target.heads = target.widths.query_heads != blocks[i].query_heads;
    }
    if (options_.ffn && any({"mlp.gate_up", "mlp.down"})) {
      const std::int64_t unit = options_.align > 0
                                    ? options_.align
                                    : automatic_alignment(blocks[i].ffn);
      target.widths.ffn =
          kept_width(blocks[i].ffn, options_.sparsity_ratio, unit);
      target.ffn = target.widths.ffn != blocks[i].ffn;
    }
    const auto must_be_dense = [&](const Linear& linear, const char* part) {
      if (std::holds_alternative<QuantizedWeight>(linear.weight))
        fail(ErrorKind::kConfig,
             fmt::format("structured_pruning: layers.{}.{} is quantized; put "
                         "pruning before quantization",
                         i, part));
    };
    const Block& block = model.blocks[i];
    if (target.heads) {
      must_be_dense(block.attention.query, "attention.query");
      must_be_dense(block.attention.output, "attention.output");
    }
    if (target.ffn) {
      must_be_dense(block.mlp.gate_up, "mlp.gate_up");
      must_be_dense(block.mlp.down, "mlp.down");
    }
  }
  return out;
}

// Indices of the `count` largest scores, in their original order.
at::Tensor largest(const at::Tensor& scores, std::int64_t count) {
  const at::Tensor order = std::get<1>(
      at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  return std::get<0>(at::sort(order.narrow(0, 0, count)));
}

// Importance of the input columns of `weight` [out, in] -> [in].
at::Tensor column_scores(const at::Tensor& weight, const Moments& moments) {
  return weight.to(at::kFloat).norm(2, 0) *
         (moments.compressed.diagonal() / moments.tokens).sqrt();
}

std::optional<SplitMoments> StructuredPruning::moments_at(
    Site site, const Model& model, const BlockVisit* visit,
    const Block& block) const {
  if (visit == nullptr) return {};
  if (!options_.repair && options_.importance != "activation") return {};
  return collect_moments(model, *visit, block, site);
}

Weight StructuredPruning::keep_columns(
    const at::Tensor& weight, const at::Tensor& kept,
    const std::optional<SplitMoments>& moments, const std::string& error_name,
    Json& note) const {
  if (!moments || !options_.repair)
    return DenseWeight{pick(weight, 1, kept).contiguous()};
  const Repair repair = repair_columns(weight, kept, *moments);
  note[error_name + "_cut"] = repair.error_before;
  note[error_name] = repair.error_after;
  return DenseWeight{repair.weight};
}

void StructuredPruning::prune_heads(const Model& model, const BlockVisit* visit,
                                    Block& block, const BlockWidths& to,
                                    Json& note) const {
  const std::int64_t size = model.architecture.head_size;
  const BlockWidths from = widths(block, size);
  const std::int64_t group = from.query_heads / from.kv_heads;
  Attention& attention = block.attention;
  const at::Tensor output = dense(attention.output.weight);
  const auto moments = moments_at(Site::kOutput, model, visit, block);
  at::Tensor scores;  // [G, N/G]
  if (moments && options_.importance == "activation") {
    scores = column_scores(output, moments->fit)
                 .square()
                 .view({from.kv_heads, group, size})
                 .sum(-1);
  } else {
    scores = output.to(at::kFloat).abs().sum(0) +
             dense(attention.query.weight).to(at::kFloat).abs().sum(1);
    scores = scores.view({from.kv_heads, group, size}).sum(-1);
  }
  std::vector<at::Tensor> parts;
  for (std::int64_t g = 0; g < from.kv_heads; ++g)
    parts.push_back(largest(scores[g], to.query_heads / to.kv_heads) +
                    g * group);
  const at::Tensor heads = at::cat(parts);
  const at::Tensor rows =
      (heads.unsqueeze(1) * size + at::arange(size, heads.options())).flatten();
  attention.query.weight =
      DenseWeight{pick(dense(attention.query.weight), 0, rows)};
  attention.query.bias = pick(attention.query.bias, 0, rows);
  attention.output.weight =
      keep_columns(output, rows, moments, "attention_error", note);
  note["query_heads"] = to.query_heads;
}

void StructuredPruning::prune_ffn(const Model& model, const BlockVisit* visit,
                                  Block& block, const BlockWidths& to,
                                  Json& note) const {
  const at::Tensor gate_up = dense(block.mlp.gate_up.weight);
  const at::Tensor down = dense(block.mlp.down.weight);
  const std::int64_t ffn = down.size(1);
  const auto moments = moments_at(Site::kDown, model, visit, block);
  at::Tensor scores;
  if (moments && options_.importance == "activation")
    scores = column_scores(down, moments->fit);
  else
    scores = down.to(at::kFloat).abs().sum(0) +
             gate_up.to(at::kFloat).abs().sum(1).view({2, ffn}).sum(0);
  const at::Tensor kept = largest(scores, to.ffn);
  const at::Tensor rows = at::cat({kept, kept + ffn});
  block.mlp.gate_up.weight = DenseWeight{pick(gate_up, 0, rows)};
  block.mlp.gate_up.bias = pick(block.mlp.gate_up.bias, 0, rows);
  block.mlp.down.weight = keep_columns(down, kept, moments, "mlp_error", note);
  note["ffn"] = to.ffn;
}

// Attention first: what the MLP receives depends on it.
Block StructuredPruning::prune(const Model& model, const BlockVisit* visit,
                               const Block& block, const Target& target,
                               Json& note) const {
  Block out = block;
  if (target.heads) prune_heads(model, visit, out, target.widths, note);
  if (target.ffn) prune_ffn(model, visit, out, target.widths, note);
  return out;
}

void StructuredPruning::run(Model& model, PassContext& context) const {
  const at::Device home = device(model.embedding);
  const std::vector<Target> wanted = targets(model);
  Model work = to_device(model, context.device);
  Json notes = Json::array();
  Progress progress("structured pruning", model.architecture.layers(),
                    "blocks");
  const auto one = [&](const BlockVisit* visit, std::size_t layer) {
    Json note = {{"layer", layer}};
    Block out = prune(work, visit, work.blocks[layer], wanted[layer], note);
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
  const std::vector<Target> wanted = targets(shapes);
  const std::int64_t size = shapes.architecture.head_size;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto keep = [](Weight& weight, std::int64_t dim, std::int64_t count) {
      weight = DenseWeight{dense(weight).narrow(dim, 0, count).contiguous()};
    };
    Block& block = shapes.blocks[i];
    if (wanted[i].heads) {
      const std::int64_t rows = wanted[i].widths.query_heads * size;
      Attention& attention = block.attention;
      keep(attention.query.weight, 0, rows);
      if (attention.query.bias.defined())
        attention.query.bias = attention.query.bias.narrow(0, 0, rows);
      keep(attention.output.weight, 1, rows);
    }
    if (wanted[i].ffn) {
      keep(block.mlp.gate_up.weight, 0, 2 * wanted[i].widths.ffn);
      keep(block.mlp.down.weight, 1, wanted[i].widths.ffn);
    }
  }
  update_widths(shapes);
}

}  // namespace

PassInfo structured_pruning() {
  return describe_pass<StructuredPruning>(
      "structured_pruning", "remove FFN channels and query heads, with repair");
}

}  // namespace autoglm::passes
