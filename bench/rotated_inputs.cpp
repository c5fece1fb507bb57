// Would it pay to rotate the inputs of attention.output and mlp.down?
//
//   rotated_inputs MODEL CALIBRATION EVALUATION
//                  [--bits 4,3,2] [--methods rtn,gptq,adaquant]
//
// These two have no norm before them that a rotation could be folded into; a
// runtime would have to multiply their inputs by a Hadamard matrix (QuaRot,
// arXiv 2404.00456). Here the weights are rounded as if it did: H is orthogonal
// and the layer's error the same as that of round(W H) H' on the inputs as they
// are. H is block diagonal, blocks of the greatest power of two that divides.
// The other matrices stay in floating point. Calibration on 128 windows of 256
// tokens, symmetric groups of 64 (or what divides); per row the mean error of
// the outputs over the blocks on held-out windows, relative to their energy and
// with adaquant by what it costs the predictions, and the divergence from the
// original over 200 windows of the evaluation text.
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <string>
#include <vector>

#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/evaluate.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/pipeline/text_data.h"
#include "command_line.h"
#include "passes/quantization/rounder.h"

using namespace autoglm;

namespace {

constexpr std::int64_t kBatch = 8;

// Orthogonal, [size, size] fp32.
at::Tensor hadamard(std::int64_t size) {
  at::Tensor block = at::ones({1, 1});
  while (size % (2 * block.size(0)) == 0)
    block = at::cat({at::cat({block, block}, 1), at::cat({block, -block}, 1)});
  const std::int64_t side = block.size(0);
  return at::kron(at::eye(size / side), block) /
         std::sqrt(static_cast<double>(side));
}

Moments rotated(Moments moments, const at::Tensor& h) {
  for (at::Tensor* part :
       {&moments.compressed, &moments.drift_cross, &moments.drift})
    if (part->defined()) *part = at::mm(at::mm(h.t(), *part), h);
  for (at::Tensor* part : {&moments.sum, &moments.drift_sum})
    if (part->defined()) *part = at::mv(h.t(), *part);
  return moments;
}

struct Row {
  double output = 0, down = 0, kl = 0;
};

class Trial {
 public:
  Trial(const Model& model, const at::Tensor& ids,
        const TokenWindows& evaluation, std::int64_t prefix)
      : model_(model), ids_(ids), evaluation_(evaluation) {
    FisherOptions options;
    options.batch = kBatch;
    options.wanted = [](const std::string& name) {
      return name.ends_with(".output") || name.ends_with("mlp.down");
    };
    fisher_ = output_fisher(model, ids, prefix, options);
  }

  Row run(int bits, const std::string& method, bool rotate) const;

 private:
  const Model& model_;
  const at::Tensor& ids_;
  const TokenWindows& evaluation_;
  std::vector<BlockFisher> fisher_;
};

Row Trial::run(int bits, const std::string& method, bool rotate) const {
  QuantizationOptions options;
  options.bits = {bits};
  options.group_size = 64;
  options.method = method;
  options.scale_search = method != "rtn";
  options.target_layers = {"*.output", "*.mlp.down"};
  const auto schemes = quantization_schemes(model_, options);
  Progress progress("rounding", static_cast<std::int64_t>(schemes.size()),
                    "matrices");
  Rounder rounder(schemes, options, progress);
  Model work = model_;
  walk_blocks(
      work, model_.embedding, ids_, kBatch, [&](const BlockVisit& visit) {
        Block block = visit.original;
        const BlockFisher& costs =
            fisher_[static_cast<std::size_t>(visit.layer)];
        for (const auto& [site, part] :
             {std::pair(Site::kOutput, "attention.output"),
              std::pair(Site::kDown, "mlp.down")}) {
          Linear& linear = *find_linear(block, part);
          const at::Tensor h = rotate ? hadamard(columns(linear.weight))
                                      : at::eye(columns(linear.weight));
          const std::string name =
              fmt::format("layers.{}.{}", visit.layer, part);
          const bool costly = rounder.uses_fisher(name);
          const SplitMoments moments =
              collect_moments(model_, visit, block, site,
                              costly ? Streams::kBoth : Streams::kCompressed,
                              costly ? costs.tokens.at(site) : at::Tensor());
          const Linear turned = {
              DenseWeight{at::mm(to_dense(linear.weight, at::kFloat), h)},
              linear.bias};
          const Rounded rounded = rounder.round(
              name, turned,
              {rotated(moments.fit, h), rotated(moments.held_out, h)},
              costly ? costs.outputs.at(part) : OutputMetric(), linear.bias);
          linear.weight = DenseWeight{
              at::mm(dequantize({rounded.codes.to(at::kFloat), rounded.fit},
                                rounder.scheme(name).grid),
                     h.t())};
        }
        return block;
      });
  Row out;
  const auto layers = static_cast<double>(model_.blocks.size());
  for (const Json& note : rounder.take_notes())
    (note["name"].get<std::string>().ends_with("down") ? out.down
                                                       : out.output) +=
        note["error"].get<double>() / layers;
  out.kl = evaluate(work, evaluation_, &model_).divergence->kl;
  return out;
}

struct Settings {
  std::string model, calibration, evaluation;
  std::vector<int> bits = {4, 3, 2};
  std::vector<std::string> methods = {"rtn", "gptq", "adaquant"};
};

void run(const Settings& settings) {
  const at::NoGradGuard no_grad;
  const Model model =
      to_compute(load_model(settings.model), at::kCPU, at::kFloat);
  const TokenWindows calibration =
      load_windows(model, {settings.calibration, 128, 256}, Pick::kSpread);
  const TokenWindows evaluation =
      load_windows(model, {settings.evaluation, 200, 256});
  const at::Tensor ids = window_ids(calibration);
  const Trial trial(model, ids, evaluation,
                    static_cast<std::int64_t>(calibration.prefix.size()));
  std::printf(
      "| bits | method | output | rotated | down | rotated | KL | rotated |\n"
      "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  for (const int bits : settings.bits)
    for (const std::string& method : settings.methods) {
      const Row plain = trial.run(bits, method, false);
      const Row turned = trial.run(bits, method, true);
      std::printf("| %d | %s | %.3g | %.3g | %.3g | %.3g | %.3g | %.3g |\n",
                  bits, method.c_str(), plain.output, turned.output, plain.down,
                  turned.down, plain.kl, turned.kl);
      std::fflush(stdout);
    }
}

}  // namespace

int main(int count, char** words) {
  Settings settings;
  CLI::App app("Would it pay to rotate the inputs of output and down?",
               "rotated_inputs");
  app.add_option("MODEL", settings.model, "checkpoint folder")->required();
  app.add_option("CALIBRATION", settings.calibration, "text")->required();
  app.add_option("EVALUATION", settings.evaluation, "text")->required();
  bench::add_list(app, "--bits", settings.bits, "of the weights");
  bench::add_list(app, "--methods", settings.methods, "of quantization");
  return bench::run_program(app, count, words, [&] { run(settings); });
}
