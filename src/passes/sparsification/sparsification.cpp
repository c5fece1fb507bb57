// Set single weights to zero where a layer can best do without them.
//
//   weights   [ 1 -4  2  3 ]     magnitude, sparsity 0.5   [ 0 -4  0  3 ]
//   inputs    [ 9  1  1  1 ]     wanda, sparsity 0.5       [ 1 -4  0  0 ]
//
// The methods are in sparse_matrix.h, the patterns in pattern.h. Only matrices
// of blocks are touched: routers, indexers, norms, biases, the embedding and
// the head stay. Matrices are stored densely, zeros like any other number, so
// that every loader reads them: neither the file nor a dense kernel gains from
// them by itself.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/passes/pass.h"
#include "passes/expert_inputs.h"
#include "passes/sparsification/sparsifier.h"

namespace autoglm::passes {
namespace {

class Sparsification final : public Pass {
 public:
  struct Options {
    double sparsity = 0.5;
    std::string pattern = "unstructured";
    std::string method = "sparsegpt";
    std::vector<std::string> target_layers = {"encoder.block.*"};
    std::vector<std::string> ignore;

    template <class Field>
    void visit(Field&& field) {
      field("sparsity", sparsity,
            "share of each matrix's weights that become zero; of n:m it is "
            "1 - n/m",
            Range{0, 0.99});
      field("pattern", pattern,
            "unstructured; n:m: n of every m weights along the inputs stay "
            "(2:4); block:RxC: tiles of R outputs and C inputs go as a whole");
      field("method", method,
            "sparsegpt: by inputs, the weights that stay make up for those "
            "that go; wanda: by weight size times norm of the input, within "
            "each output; magnitude: by weight size within the matrix, needs "
            "no data",
            Choices{"sparsegpt", "wanda", "magnitude"});
      field("target_layers", target_layers,
            "matrices of blocks to make sparse; globs over layer names");
      field("ignore", ignore, "matrices to leave as they are; globs");
    }
  };

  explicit Sparsification(Options options)
      : options_(std::move(options)),
        pattern_(parse_pattern(options_.pattern, options_.sparsity)) {
    // The default says nothing, so it contradicts nothing.
    if (pattern_.share != options_.sparsity &&
        options_.sparsity != Options{}.sparsity)
      fail(ErrorKind::kConfig,
           fmt::format("sparsification: the pattern {} is a sparsity of {:g}; "
                       "leave out sparsity: {:g}",
                       pattern_.text(), pattern_.share, options_.sparsity));
    options_.sparsity = pattern_.share;
  }
  void run(Model& model, PassContext& context) const override;
  void plan(Model& shapes) const override { targets(shapes); }
  ConfigNode resolved_params() const override {
    return options_to_config(options_);
  }

 private:
  std::set<std::string> targets(const Model& model) const;

  Options options_;
  SparsityPattern pattern_;
};

std::set<std::string> Sparsification::targets(const Model& model) const {
  const std::vector<std::string> ignored =
      options_.ignore.empty() ? std::vector<std::string>()
                              : select_linears(model, options_.ignore);
  std::set<std::string> out;
  for (const std::string& name :
       select_linears(model, options_.target_layers)) {
    if (!name.starts_with("layers.") ||
        std::find(ignored.begin(), ignored.end(), name) != ignored.end())
      continue;
    const Weight& weight = weight_of(model, name);
    if (!std::holds_alternative<DenseWeight>(weight))
      fail(ErrorKind::kConfig,
           fmt::format("sparsification: {} is quantized; put sparsification "
                       "before quantization",
                       name));
    check_pattern(pattern_, name, rows(weight), columns(weight));
    out.insert(name);
  }
  if (out.empty())
    fail(ErrorKind::kConfig,
         "sparsification: target_layers and ignore leave no matrix of a block");
  return out;
}

// Each expert on the tokens that are sent to it; with too few of them, by
// magnitude.
void sparsify_experts(const Model& model, const BlockVisit& visit,
                      Sparsifier& sparsifier, Block& block, Json& note) {
  std::optional<ExpertInputs> inputs;
  Json tokens = Json::array(), without = Json::array();
  for (std::size_t e = 0; e < block.mixture.experts.size(); ++e) {
    Mlp& expert = block.mixture.experts[e];
    const auto sparsify =
        [&](const std::vector<std::pair<const char*, Linear*>>& linears,
            const auto& moments_of) {
          std::optional<SplitMoments> moments;
          bool asked = false;
          for (const auto& [kind, linear] : linears) {
            const std::string name = fmt::format("layers.{}.mlp.experts.{}.{}",
                                                 visit.layer, e, kind);
            if (!sparsifier.wants(name)) continue;
            if (!inputs)
              inputs.emplace(model, visit, block, Streams::kCompressed);
            if (!asked) moments = moments_of();
            asked = true;
            if (!moments) without.push_back(name);
            linear->weight = sparsifier.sparsify(name, linear->weight,
                                                 moments ? &*moments : nullptr);
          }
        };
    sparsify({{"gate_up", &expert.gate_up},
              {"gate", &expert.gate},
              {"up", &expert.up}},
             [&] { return inputs->inner(e); });
    sparsify({{"down", &expert.down}}, [&] {
      return inputs->down(e, visit.original.mixture.experts[e], expert);
    });
    if (inputs) tokens.push_back(inputs->tokens(e));
  }
  if (!tokens.empty()) note["expert_tokens"] = std::move(tokens);
  if (without.empty()) return;
  log_warning(
      "sparsification: {} matrices of block {} belong to experts with fewer "
      "than {} calibration tokens; their weights go by magnitude",
      without.size(), visit.layer, ExpertInputs::kFewestTokens);
  note["magnitude_without_tokens"] = std::move(without);
}

// Site after site, each on inputs from the block as it is so far.
Block sparsify_block(const Model& model, const BlockVisit& visit,
                     Sparsifier& sparsifier, Json& note) {
  Block block = visit.original;
  for (const SiteMatrices& site : block_sites(visit.original)) {
    std::optional<SplitMoments> moments;
    for (const std::string& part : site.names) {
      const std::string name = fmt::format("layers.{}.{}", visit.layer, part);
      if (!sparsifier.wants(name)) continue;
      if (!moments)
        moments = collect_moments(model, visit, block, site.site,
                                  Streams::kCompressed);
      Linear& linear = *find_linear(block, part);
      linear.weight = sparsifier.sparsify(name, linear.weight, &*moments);
    }
  }
  sparsify_experts(model, visit, sparsifier, block, note);
  return block;
}

// By weights alone.
Block sparsify_block(std::int64_t layer, Block block, Sparsifier& sparsifier) {
  visit_block(
      block,
      [&](const std::string& part, Linear& linear) {
        const std::string name = fmt::format("layers.{}.{}", layer, part);
        if (sparsifier.wants(name))
          linear.weight = sparsifier.sparsify(name, linear.weight, nullptr);
      },
      [](const std::string&, at::Tensor&) {});
  return block;
}

void Sparsification::run(Model& model, PassContext& context) const {
  const at::NoGradGuard no_grad;
  const std::set<std::string> names = targets(model);
  if (pattern_.share == 0) return;
  const at::Device home = device(model.embedding);
  Model work = to_device(model, context.device);
  Progress progress(fmt::format("sparsification ({})", options_.method),
                    static_cast<std::int64_t>(names.size()), "matrices");
  Sparsifier sparsifier(options_.method, pattern_, names, progress);
  Json blocks = Json::array();
  const auto one = [&](std::int64_t layer, const auto& sparsify) {
    Json note = {{"layer", layer}};
    Block out = sparsify(note);
    sparsifier.summarize(layer, note);
    blocks.push_back(std::move(note));
    return out;
  };
  const bool by_inputs = options_.method != "magnitude";
  if (by_inputs && context.calibration.defined()) {
    walk_blocks(work, work.embedding, context.calibration.to(context.device), 8,
                [&](const BlockVisit& visit) {
                  return one(visit.layer, [&](Json& note) {
                    return sparsify_block(work, visit, sparsifier, note);
                  });
                });
  } else {
    if (by_inputs)
      log_warning("sparsification: no calibration data; {} becomes magnitude",
                  options_.method);
    for (std::size_t i = 0; i < work.blocks.size(); ++i) {
      const auto layer = static_cast<std::int64_t>(i);
      work.blocks[i] = one(layer, [&](Json&) {
        return sparsify_block(layer, work.blocks[i], sparsifier);
      });
    }
  }
  model = to_device(work, home);
  log_info(
      "sparsification: zeros are stored densely; they make neither the "
      "checkpoint smaller nor dense kernels faster by themselves");
  context.note("pattern", pattern_.text());
  context.note("storage", "dense, zeros included: no smaller, no faster");
  context.note("blocks", std::move(blocks));
  context.note("matrices", sparsifier.take_notes());
}

}  // namespace

PassInfo sparsification() {
  return describe_pass<Sparsification>(
      "sparsification",
      "set weights to zero: single ones, n:m or tiles; stored densely");
}

}  // namespace autoglm::passes
