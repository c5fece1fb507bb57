// Store weights as packed integers; docs/quantization.md explains the methods.
//
// Biases, norms, routers and indexers stay in floating point. The matrices that
// share an input (query, key, value) share its moments. Every expert of a
// mixture is fitted on the tokens that are sent to it. The head is fitted on
// the final norm's output; the embedding has no input, its scales are chosen
// for the least squared error of its rows, before the walk, so that the blocks
// make up for it.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/passes/pass.h"
#include "passes/output_fisher.h"
#include "passes/quantization/allocate_bits.h"
#include "passes/quantization/block_rounder.h"
#include "passes/quantization/choose_folds.h"
#include "passes/quantization/end_to_end.h"

namespace autoglm::passes {
namespace {

using Schemes = std::map<std::string, Scheme>;

// The shape of `weight` on a grid, without data.
QuantizedWeight packed_shape(const Weight& weight, const Grid& grid) {
  const at::Tensor codes =
      at::empty({rows(weight), columns(weight)},
                at::TensorOptions(at::kByte).device(at::kMeta));
  const at::Tensor scales =
      at::empty({rows(weight), columns(weight) / grid.group_size},
                at::TensorOptions(grid.scale_dtype).device(at::kMeta));
  return pack_weight(codes, scales,
                     grid.symmetric ? at::Tensor() : scales.to(at::kByte),
                     grid.bits, grid.group_size);
}

// Everything stored of it.
Weight stored_shape(const Weight& weight, const Scheme& scheme) {
  const auto meta = [](at::ScalarType dtype) {
    return at::TensorOptions(dtype).device(at::kMeta);
  };
  Weight out = packed_shape(weight, scheme.grid);
  if (scheme.float8)
    out = Float8Weight{
        at::empty({rows(weight), columns(weight)}, meta(at::kFloat8_e4m3fn)),
        at::empty({rows(weight), 1}, meta(scheme.grid.scale_dtype))};
  if (scheme.activations == "none") return out;
  return with_activations(out, scheme.activations == "static"
                                   ? at::empty({1}, meta(at::kFloat))
                                   : at::Tensor());
}

class Quantization final : public Pass {
 public:
  using Options = QuantizationOptions;

  explicit Quantization(Options options) : options_(std::move(options)) {}
  void run(Model& model, PassContext& context) const override;
  void plan(Model& shapes) const override;
  ConfigNode resolved_params() const override {
    return options_to_config(options_);
  }

 private:
  void run_with_data(Model& work, const Schemes& schemes, Rounder& rounder,
                     PassContext& context) const;
  void tune_all(Model& work, const Model& before, const Stream& original,
                const Schemes& schemes, PassContext& context,
                std::int64_t batch) const;

  Options options_;
};

// What the head receives in both streams.
SplitMoments head_moments(const Model& model, const Stream& original,
                          const Stream& compressed) {
  return split_moments(original.size(), [&](std::size_t i) {
    return std::pair(final_hidden(model, original[i]),
                     final_hidden(model, compressed[i]));
  });
}

// What errors cost, for the matrices that want to know; empty entries else.
std::vector<BlockFisher> fisher_of(const Model& model, const at::Tensor& ids,
                                   const Rounder& rounder,
                                   const PassContext& context,
                                   std::int64_t batch) {
  FisherOptions options;
  options.batch = batch;
  options.seed = derive_seed(context.seed, "fisher");
  options.wanted = [&](const std::string& name) {
    return rounder.uses_fisher(name);
  };
  Progress progress("quantization (Fisher information)",
                    (ids.size(0) + batch - 1) / batch, "batches");
  return output_fisher(model, ids, context.prefix, options,
                       [&] { progress.step(); });
}

// The visit of a block in whose place another one with the same function is
// quantized.
BlockVisit with_original(const BlockVisit& visit, const Block& block) {
  return {visit.layer,
          block,
          visit.original_input,
          visit.original_output,
          visit.compressed_input,
          visit.original_contexts,
          visit.compressed_contexts};
}

void note_folds(Json folds, PassContext& context) {
  const auto kept = std::count_if(
      folds.begin(), folds.end(),
      [](const Json& fold) { return fold.at("kept").get<bool>(); });
  log_info("quantization: scales are folded at {} of {} sites", kept,
           folds.size());
  context.note("folds", std::move(folds));
}

// Windows per step and per batch of the walk.
std::int64_t windows_at_once(std::int64_t asked, const at::Tensor& windows) {
  if (asked > 0) return asked;
  constexpr std::int64_t kTokens = 2048, kMost = 8;
  const std::int64_t length = windows.size(1);
  return std::clamp<std::int64_t>((kTokens + length / 2) / length, 1, kMost);
}

// `bits: auto`: what may be chosen for each matrix, and what it takes.
class WidthChoice {
 public:
  WidthChoice(const Model& model, const QuantizationOptions& options)
      : model_(model), options_(options) {
    if (options.average_bits == 0 && options.max_size.bytes == 0)
      fail(ErrorKind::kConfig,
           "quantization: bits: auto needs average_bits or max_size");
    if (options.format != "int" || options.activations != "none")
      fail(ErrorKind::kConfig,
           "quantization: bits: auto chooses among integer widths; leave "
           "format and activations as they are");
    const Schemes names = quantization_schemes(model, options);
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      std::map<std::string, int> all;
      for (const auto& [name, scheme] : names) all[name] = bits;
      by_width_[bits] = quantization_schemes(model, options, all);
    }
  }

  BitRequest request() const {
    BitRequest out;
    for (const auto& [bits, schemes] : by_width_)
      for (const auto& [name, scheme] : schemes) {
        std::vector<int>& widths = out.widths[name];
        if (std::find(widths.begin(), widths.end(), scheme.grid.bits) ==
            widths.end())
          widths.push_back(scheme.grid.bits);
      }
    out.bytes = [this](const std::string& name, int bits) {
      const Weight& weight = weight_of(model_, name);
      return bytes(packed_shape(weight, grid(name, bits)));
    };
    out.average_bits = options_.average_bits;
    out.max_size = options_.max_size.bytes;
    return out;
  }

  /// With the scales of least squared error: enough to compare widths.
  Weight quantize(const std::string& name, int bits) const {
    const Grid& on = grid(name, bits);
    return pack(by_rows(to_dense(weight_of(model_, name), at::kFloat),
                        [&](const at::Tensor& rows) {
                          const GridFit fit = fit_least_error(rows, {}, on);
                          return Rounded{nearest_codes(rows, fit, on), fit};
                        }),
                on);
  }

 private:
  const Grid& grid(const std::string& name, int bits) const {
    for (const auto& [width, schemes] : by_width_)
      if (schemes.at(name).grid.bits == bits) return schemes.at(name).grid;
    fail(ErrorKind::kInternal, "no such width");
  }

  const Model& model_;
  const QuantizationOptions& options_;
  std::map<int, Schemes> by_width_;
};

void Quantization::tune_all(Model& work, const Model& before,
                            const Stream& original, const Schemes& schemes,
                            PassContext& context, std::int64_t batch) const {
  const bool any = std::any_of(
      schemes.begin(), schemes.end(),
      [](const auto& it) { return it.second.method == "adaquant"; });
  if (options_.end_to_end == 0 || !any) return;
  EndToEndOptions with;
  with.steps = options_.end_to_end;
  with.rate = options_.end_to_end_rate;
  with.batch = batch;
  with.seed = derive_seed(context.seed, "end to end");
  Progress progress("quantization (end to end)", with.steps, "steps");
  Json note;
  tune_end_to_end(work, before, original, context, with, note,
                  [&] { progress.step(); });
  context.note("end_to_end", std::move(note));
}

void Quantization::run_with_data(Model& work, const Schemes& schemes,
                                 Rounder& rounder, PassContext& context) const {
  const at::Tensor ids = context.calibration.to(context.device);
  const std::int64_t batch = windows_at_once(options_.batch, ids);
  const Model before = work;
  const Weight embedding = work.embedding;
  if (rounder.wants("embedding"))
    work.embedding = rounder.round_alone("embedding", {embedding, {}});
  std::vector<BlockFisher> fisher =
      fisher_of(work, ids, rounder, context, batch);
  Json blocks = Json::array(), folds = Json::array();
  const auto visit_block = [&](const BlockVisit& visit) {
    const auto start = std::chrono::steady_clock::now();
    Json note = {{"layer", visit.layer}};
    BlockFisher& costs = fisher[static_cast<std::size_t>(visit.layer)];
    const std::uint64_t seed =
        derive_seed(context.seed, fmt::format("block {}", visit.layer));
    Block block;
    if (options_.folds == "none") {
      block = round_block(work, visit, rounder, costs, options_, seed, note);
    } else {
      const FoldedBlock folded =
          choose_folds(work, visit, rounder, costs, options_, folds);
      block = round_block(work, with_original(visit, folded.block), rounder,
                          folded.fisher, options_, seed, note);
    }
    costs = {};
    note["seconds"] =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
    blocks.push_back(std::move(note));
    return block;
  };
  const auto [original, compressed] =
      walk_blocks(work, embedding, ids, batch, visit_block);
  context.note("blocks", std::move(blocks));
  if (options_.folds != "none") note_folds(std::move(folds), context);
  tune_all(work, before, original, schemes, context, batch);
  if (!rounder.wants("head")) return;
  Linear& head = *work.head;
  head.weight =
      rounder.wants_inputs("head")
          ? pack(rounder.round("head", head,
                               head_moments(work, original, compressed), {},
                               head.bias),
                 schemes.at("head").grid)
          : rounder.round_alone("head", head);
}

void Quantization::run(Model& model, PassContext& context) const {
  const at::NoGradGuard no_grad;
  const at::Device home = device(model.embedding);
  Model work = to_device(model, context.device);
  std::map<std::string, int> chosen;
  if (options_.bits.is_auto()) {
    const WidthChoice choice(work, options_);
    chosen = allocate_bits(work, context, choice.request(),
                           [&](const std::string& name, int bits) {
                             return choice.quantize(name, bits);
                           });
  }
  const Schemes schemes = quantization_schemes(work, options_, chosen);
  Progress progress(fmt::format("quantization ({})", options_.method),
                    static_cast<std::int64_t>(schemes.size()), "matrices");
  Rounder rounder(schemes, options_, progress);
  const bool static_inputs = options_.activations == "static";
  const bool folds = options_.folds != "none";
  const bool needs_data =
      static_inputs || folds ||
      std::any_of(schemes.begin(), schemes.end(),
                  [](const auto& it) { return it.second.method != "rtn"; });
  if (needs_data && context.calibration.defined()) {
    run_with_data(work, schemes, rounder, context);
  } else {
    if (static_inputs)
      fail(ErrorKind::kConfig,
           "quantization: activations: static needs calibration data");
    if (folds)
      fail(ErrorKind::kConfig, fmt::format("quantization: folds: {} needs "
                                           "calibration data",
                                           options_.folds));
    if (needs_data)
      log_warning(
          "quantization: no calibration data; {} becomes a search of scales",
          options_.method);
    for (const auto& [name, scheme] : schemes) {
      Weight& weight = weight_of(work, name);
      weight = rounder.round_alone(name, {weight, {}});
      if (scheme.activations == "dynamic") weight = with_activations(weight);
    }
  }
  // The walk fits the streams of both models with the same cache.
  if (options_.kv_cache_bits > 0)
    work.architecture.kv_cache_bits = static_cast<int>(options_.kv_cache_bits);
  if (rounder.wants("embedding"))
    log_info(
        "quantization: the embedding is packed, which transformers cannot "
        "load; embedding_bits: 0 leaves it as it is");
  model = to_device(work, home);
  context.note("matrices", rounder.take_notes());
}

void Quantization::plan(Model& shapes) const {
  std::map<std::string, int> chosen;
  if (options_.bits.is_auto())
    chosen = plan_bits(shapes, WidthChoice(shapes, options_).request());
  for (const auto& [name, scheme] :
       quantization_schemes(shapes, options_, chosen)) {
    Weight& weight = weight_of(shapes, name);
    weight = stored_shape(weight, scheme);
  }
  if (options_.kv_cache_bits > 0)
    shapes.architecture.kv_cache_bits =
        static_cast<int>(options_.kv_cache_bits);
}

}  // namespace

PassInfo quantization() {
  return describe_pass<Quantization>(
      "quantization",
      "store weights as packed 2- to 8-bit integers or e4m3 numbers");
}

}  // namespace autoglm::passes
