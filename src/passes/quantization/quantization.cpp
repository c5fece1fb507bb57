// Store weights as packed integers.
//
//   rtn       nearest rounding with scales from the extremes; needs no data
//   adaquant  learned rounding and scales, layer by layer through the blocks:
//             inputs from the model quantized so far, targets from the original
//
// Biases and norms stay in floating point. The matrices that share an input
// (query, key, value) share its moments. Every expert of a mixture is fitted on
// the tokens that are sent to it. The head is fitted on the final norm's
// output; the embedding has no input, its scales are chosen for the least
// squared error of its rows, before the walk, so that the blocks make up for
// it.
#include <ATen/core/grad_mode.h>

#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/footprint.h"
#include "autoglm/passes/pass.h"
#include "passes/expert_inputs.h"
#include "passes/quantization/rounder.h"

namespace autoglm::passes {
namespace {

class Quantization final : public Pass {
 public:
  struct Options {
    std::int64_t bits = 8;
    std::string method = "adaquant";
    std::int64_t group_size = 0;
    bool symmetric = true;
    std::vector<std::string> target_layers = {"*"};
    std::int64_t head_bits = -1;
    std::int64_t embedding_bits = -1;
    std::int64_t iterations = -1;
    std::int64_t sweeps = 4;
    double code_rate = 0.005;
    double scale_rate = 0.0005;
    bool scale_search = true;
    bool error_feedback = true;

    template <class Field>
    void visit(Field&& field) {
      field("bits", bits, "width of a code", Range{2, 8});
      field("method", method,
            "adaquant: learned rounding and scales; rtn: nearest rounding",
            Choices{"adaquant", "rtn"});
      field("group_size", group_size,
            "inputs that share a scale; -1: a whole row; 0: a row for 8 bits, "
            "else the largest of 128, 64, 32, 16 that divides",
            Range{-1, 65536});
      field("symmetric", symmetric, "no zero points");
      field("target_layers", target_layers,
            "matrices to quantize; globs over layer names");
      field("head_bits", head_bits,
            "width for the output head, when selected; 0: leave it; -1: leave "
            "it, but 8 where head and embedding are over a fifth of the model",
            Range{-1, 8});
      field("embedding_bits", embedding_bits,
            "the same for the embedding; transformers loads no packed one, so "
            "0 where that matters",
            Range{-1, 8});
      field("iterations", iterations,
            "adaquant: Adam steps per matrix; -1: 200, or 30 from 7 bits up",
            Range{-1, 100000});
      field("sweeps", sweeps,
            "adaquant: rounds of coordinate descent over codes and scales, "
            "before and after Adam",
            Range{0, 1000});
      field("code_rate", code_rate,
            "adaquant: learning rate of the codes, in grid steps", Range{0, 1});
      field("scale_rate", scale_rate,
            "adaquant: learning rate of the logarithm of the scales",
            Range{0, 1});
      field("scale_search", scale_search,
            "adaquant: start from searched instead of full ranges");
      field("error_feedback", error_feedback,
            "adaquant: also start from error feedback (GPTQ)");
    }
  };

  explicit Quantization(Options options) : options_(std::move(options)) {}
  void run(Model& model, PassContext& context) const override;
  void plan(Model& shapes) const override;
  ConfigNode resolved_params() const override {
    return options_to_config(options_);
  }

 private:
  // The grid of every matrix to quantize, by canonical name.
  std::map<std::string, Grid> grids(const Model& model) const;
  AdaquantOptions adaquant_options(int bits) const;

  Options options_;
};

// What is left of a small model is mostly its vocabulary: there the tables are
// worth packing, elsewhere they are worth keeping. Nobody needs a toy smaller.
std::int64_t automatic_table_bits(const Model& model) {
  const Footprint size = footprint(model);
  const std::uint64_t all = size.total().parameters;
  const std::uint64_t tables = size.embedding.parameters + size.head.parameters;
  return all > 1'000'000 && 5 * tables > all ? 8 : 0;
}

std::int64_t automatic_group(std::int64_t bits, std::int64_t in) {
  if (bits < 8)
    for (const std::int64_t size : {128, 64, 32, 16})
      if (in % size == 0) return size;
  return in;
}

std::map<std::string, Grid> Quantization::grids(const Model& model) const {
  std::map<std::string, Grid> out;
  const std::int64_t automatic = automatic_table_bits(model);
  const auto table_bits = [&](std::int64_t asked) {
    return asked < 0 ? automatic : asked;
  };
  for (const std::string& name :
       select_linears(model, options_.target_layers)) {
    const std::int64_t bits = name == "head" ? table_bits(options_.head_bits)
                              : name == "embedding"
                                  ? table_bits(options_.embedding_bits)
                                  : options_.bits;
    const Weight& weight = weight_of(model, name);
    if (bits == 0) continue;
    if (bits == 1)
      fail(ErrorKind::kConfig,
           fmt::format("quantization: {}_bits must be 0 or 2 to 8, but is 1",
                       name));
    if (std::holds_alternative<QuantizedWeight>(weight))
      fail(ErrorKind::kConfig,
           fmt::format("quantization: {} is already {}; take it out of "
                       "target_layers",
                       name, describe(weight)));
    const std::int64_t in = columns(weight);
    Grid grid;
    grid.bits = static_cast<int>(bits);
    grid.symmetric = options_.symmetric;
    grid.scale_dtype = dtype(weight);
    // A size that was asked for belongs to the width it was asked with.
    const bool own = bits == options_.bits;
    grid.group_size = own ? options_.group_size : 0;
    if (grid.group_size == 0) grid.group_size = automatic_group(bits, in);
    if (grid.group_size == -1) grid.group_size = in;
    if (in % grid.group_size != 0) {
      std::vector<std::int64_t> fitting;
      for (std::int64_t size = 16; size < in; size *= 2)
        if (in % size == 0) fitting.push_back(size);
      fail(ErrorKind::kConfig,
           fmt::format("quantization: the {} inputs of {} do not divide into "
                       "groups of {}; -1 (a whole row){}{} would",
                       in, name, grid.group_size, fitting.empty() ? "" : ", ",
                       fmt::join(fitting, ", ")));
    }
    out[name] = grid;
  }
  if (out.empty())
    fail(ErrorKind::kConfig,
         "quantization: target_layers selects the head or the embedding alone, "
         "which stay as they are; set head_bits or embedding_bits");
  return out;
}

AdaquantOptions Quantization::adaquant_options(int bits) const {
  AdaquantOptions out;
  // 8-bit rounding errors are so small that more steps change nothing.
  out.iterations = options_.iterations >= 0 ? options_.iterations
                   : bits >= 7              ? 30
                                            : 200;
  out.sweeps = options_.sweeps;
  out.code_rate = options_.code_rate;
  out.scale_rate = options_.scale_rate;
  out.scale_search = options_.scale_search;
  out.error_feedback = options_.error_feedback;
  return out;
}

using OptionsOf = std::function<AdaquantOptions(const std::string&)>;

// Quantizes the matrices of one block, site after site, each on inputs from the
// block as quantized so far.
void round_sites(const Model& model, const BlockVisit& visit, Block& block,
                 Rounder& rounder, const OptionsOf& with) {
  for (const SiteMatrices& site : block_sites(visit.original)) {
    std::optional<SplitMoments> moments;
    for (const std::string& part : site.names) {
      const std::string name = fmt::format("layers.{}.{}", visit.layer, part);
      if (!rounder.wants(name)) continue;
      if (!moments) moments = collect_moments(model, visit, block, site.site);
      Weight& weight = find_linear(block, part)->weight;
      weight = rounder.round(name, weight, *moments, with(name));
    }
  }
}

// The routed experts, each on the tokens that are sent to it. Too few of them:
// the least squared error of its weights.
void round_experts(const Model& model, const BlockVisit& visit, Block& block,
                   Rounder& rounder, const OptionsOf& with) {
  std::optional<ExpertInputs> inputs;
  for (std::size_t e = 0; e < block.mixture.experts.size(); ++e) {
    const Mlp& original = visit.original.mixture.experts[e];
    Mlp& expert = block.mixture.experts[e];
    const auto round =
        [&](std::initializer_list<std::pair<const char*, Linear*>> linears,
            const auto& moments_of) {
          std::optional<SplitMoments> moments;
          bool asked = false;
          for (const auto& [part, linear] : linears) {
            const std::string name = fmt::format("layers.{}.mlp.experts.{}.{}",
                                                 visit.layer, e, part);
            if (!rounder.wants(name)) continue;
            if (!inputs) inputs.emplace(model, visit, block);
            if (!asked) moments = moments_of();
            asked = true;
            linear->weight =
                moments
                    ? rounder.round(name, linear->weight, *moments, with(name))
                    : rounder.round(name, linear->weight, /*search=*/true);
          }
        };
    round({{"gate_up", &expert.gate_up},
           {"gate", &expert.gate},
           {"up", &expert.up}},
          [&] { return inputs->inner(e); });
    round({{"down", &expert.down}},
          [&] { return inputs->down(e, original, expert); });
  }
}

// What the head receives in both streams.
SplitMoments head_moments(const Model& model, const Stream& original,
                          const Stream& compressed) {
  return split_moments(original.size(), [&](std::size_t i) {
    return std::pair(final_hidden(model, original[i]),
                     final_hidden(model, compressed[i]));
  });
}

void Quantization::run(Model& model, PassContext& context) const {
  const at::NoGradGuard no_grad;
  const std::map<std::string, Grid> all = grids(model);
  const at::Device home = device(model.embedding);
  Model work = to_device(model, context.device);
  Progress progress(fmt::format("quantization ({})", options_.method),
                    static_cast<std::int64_t>(all.size()), "matrices");
  Rounder rounder(all, progress);
  const bool data =
      options_.method == "adaquant" && context.calibration.defined();
  if (options_.method == "adaquant" && !data)
    log_warning(
        "quantization: no calibration data; adaquant becomes a search "
        "of scales");
  if (!data) {
    for (const auto& [name, grid] : all) {
      Weight& weight = weight_of(work, name);
      weight = rounder.round(name, weight, options_.method == "adaquant");
    }
  } else {
    const auto with = [&](const std::string& name) {
      return adaquant_options(all.at(name).bits);
    };
    const Weight embedding = work.embedding;
    if (rounder.wants("embedding"))
      work.embedding = rounder.round("embedding", embedding, true);
    const auto [original, compressed] =
        walk_blocks(work, embedding, context.calibration.to(context.device), 8,
                    [&](const BlockVisit& visit) {
                      Block block = visit.original;
                      round_sites(work, visit, block, rounder, with);
                      round_experts(work, visit, block, rounder, with);
                      return block;
                    });
    if (rounder.wants("head"))
      work.head->weight =
          rounder.round("head", work.head->weight,
                        head_moments(work, original, compressed), with("head"));
  }
  if (rounder.wants("embedding"))
    log_info(
        "quantization: the embedding is packed, which transformers cannot "
        "load; embedding_bits: 0 leaves it as it is");
  model = to_device(work, home);
  context.note("matrices", rounder.take_notes());
}

void Quantization::plan(Model& shapes) const {
  for (const auto& [name, grid] : grids(shapes)) {
    Weight& weight = weight_of(shapes, name);
    const at::Tensor codes =
        at::empty({rows(weight), columns(weight)},
                  at::TensorOptions(at::kByte).device(at::kMeta));
    const at::Tensor scales =
        at::empty({rows(weight), columns(weight) / grid.group_size},
                  at::TensorOptions(grid.scale_dtype).device(at::kMeta));
    weight = pack_weight(codes, scales,
                         grid.symmetric ? at::Tensor() : scales.to(at::kByte),
                         grid.bits, grid.group_size);
  }
}

}  // namespace

PassInfo quantization() {
  return describe_pass<Quantization>(
      "quantization", "store weights as packed 2- to 8-bit integers");
}

}  // namespace autoglm::passes
