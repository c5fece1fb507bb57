#include "passes/quantization/choose_folds.h"

#include <ATen/core/grad_mode.h>

#include <set>

#include "autoglm/model/checkpoint.h"
#include "autoglm/model/forward.h"
#include "autoglm/model/scale_folds.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::run_pass;

namespace {

const std::filesystem::path kSource = AUTOGLM_SOURCE_DIR;

at::Tensor gain(const Model& model, std::size_t layer) {
  return model.blocks[layer].input_norm.gain;
}

at::Tensor dense(const Linear& linear) {
  return std::get<DenseWeight>(linear.weight).value;
}

// What some GLMs are like: two channels of the normed input that are a hundred
// times the others, read by small columns.
Model with_outliers() {
  Model model = test::tiny_model();
  for (Block& block : model.blocks) {
    const at::Tensor factor = at::ones({32});
    factor[3] = factor[17] = 100;
    block.input_norm.gain = (block.input_norm.gain * factor).to(at::kBFloat16);
    Attention& a = block.attention;
    for (Linear* linear : {&a.query, &a.key, &a.value})
      linear->weight = DenseWeight{(dense(*linear) / factor).to(at::kBFloat16)};
  }
  return model;
}

// Folds, verifies, and what is not packed has the dtype it came with.
void check_run(const std::string& family, const std::string& params) {
  INFO(family << " " << params);
  const auto run = run_pass("quantization", params, test::tiny_model(family));
  CHECK_NOTHROW(verify_model(run.model));
  CHECK(run.notes.at("folds").size() >= 2);
  for (const Block& block : run.model.blocks)
    visit_block(
        block,
        [](const std::string& name, const Linear& linear) {
          INFO(name);
          CHECK_FALSE(std::holds_alternative<DenseWeight>(linear.weight));
          if (linear.bias.defined())
            CHECK(linear.bias.scalar_type() == at::kBFloat16);
        },
        [](const std::string& name, const at::Tensor& tensor) {
          INFO(name);
          CHECK(tensor.scalar_type() == at::kBFloat16);
        });
}

// Chooses folds for every block of 2-bit matrices; how many are kept.
int walk_folds(Model model, const std::string& folds,
               const std::vector<std::string>& targets,
               const std::function<void(const BlockVisit&, const BlockFisher&,
                                        FoldedBlock)>& check) {
  const at::NoGradGuard no_grad;
  QuantizationOptions options;
  options.bits = {2};
  options.group_size = 8;
  options.folds = folds;
  options.target_layers = targets;
  const auto schemes = quantization_schemes(model, options);
  Progress progress("test", 1, "matrices");
  const Rounder rounder(schemes, options, progress);
  at::manual_seed(6);
  const at::Tensor ids = test::random_windows(12, 20);
  FisherOptions with;
  with.wanted = [](const std::string&) { return true; };
  const auto fisher = output_fisher(model, ids, 2, with);
  int kept = 0;
  walk_blocks(model, model.embedding, ids, 4, [&](const BlockVisit& visit) {
    INFO("layer " << visit.layer);
    const BlockFisher& costs = fisher[static_cast<std::size_t>(visit.layer)];
    Json notes = Json::array();
    FoldedBlock folded =
        choose_folds(model, visit, rounder, costs, options, notes);
    for (const Json& note : notes) kept += note["kept"].get<bool>() ? 1 : 0;
    check(visit, costs, std::move(folded));
    return visit.original;
  });
  return kept;
}

double divergence(const Model& model, const Model& changed,
                  const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  const at::Tensor p = at::log_softmax(forward(model, ids), -1);
  const at::Tensor q = at::log_softmax(forward(changed, ids), -1);
  return (p.exp() * (p - q)).sum(-1).mean().item<double>();
}

}  // namespace

TEST_CASE("fold_scales: by hand, as powers of two about 1") {
  const at::Tensor inputs = at::tensor({1.0f, 4.0f, 16.0f});
  CHECK(at::equal(fold_scales(inputs, {}, 1), at::tensor({0.25f, 1.0f, 4.0f})));
  CHECK(
      at::equal(fold_scales(inputs, {}, 0.5), at::tensor({0.5f, 1.0f, 2.0f})));
  // (64 / 1)^0.5 / (1 / 4)^0.5: 16 apart.
  CHECK(at::equal(
      fold_scales(at::tensor({64.0f, 1.0f}), at::tensor({1.0f, 4.0f}), 0.5),
      at::tensor({4.0f, 0.25f})));
}

TEST_CASE("fold_scales: dead channels stay in bounds") {
  const at::Tensor none = at::zeros({3});
  CHECK(at::equal(fold_scales(none, {}, 1), at::ones({3})));
  CHECK(at::equal(fold_scales(none, none, 0.5), at::ones({3})));
  const at::Tensor scales = fold_scales(at::tensor({0.0f, 1e30f}), {}, 1);
  CHECK(at::equal(scales, at::tensor({1.0f / 256, 256.0f})));
}

TEST_CASE("choose_folds: a fold is kept where the block's loss falls") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const auto run = run_pass(
        "quantization", "{bits: 3, group_size: 8, method: rtn, folds: awq}",
        test::tiny_model(family));
    CHECK_NOTHROW(verify_model(run.model));
    const Json& folds = run.notes.at("folds");
    REQUIRE(folds.size() >= run.model.blocks.size());
    for (std::size_t i = 0; i < folds.size(); ++i) {
      const Json& fold = folds[i];
      INFO(fold.dump());
      CHECK(fold["kept"].get<bool>() == (fold["loss"] < fold["loss_without"]));
      CHECK(fold["exponent"].get<double>() > 0);
      if (i == 0 || folds[i - 1]["layer"] != fold["layer"]) continue;
      const Json& last = folds[i - 1];
      CHECK(fold["loss_without"] ==
            last[last["kept"].get<bool>() ? "loss" : "loss_without"]);
    }
  }
}

TEST_CASE("choose_folds: the block is the same function, in every family") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = test::tiny_model(family);
    const int kept = walk_folds(
        model, "smoothquant", {"*"},
        [&](const BlockVisit& visit, const BlockFisher&, FoldedBlock folded) {
          AttentionContext context = visit.original_contexts[0];
          // Some biases are rounded to bf16 once more.
          CHECK(at::allclose(block_forward(model, folded.block, visit.layer,
                                           visit.original_input[0], context),
                             visit.original_output[0], 2e-3, 5e-3));
        });
    CHECK(kept > 0);
  }
}

TEST_CASE("choose_folds: an error costs the same in the outputs' new units") {
  for (const auto& [family, name] :
       {std::pair("glm", "attention.value"),
        std::pair("chatglm", "attention.query_key_value")}) {
    INFO(family);
    // Large values that small columns read, for the folds to take back.
    Model model = test::tiny_model(family);
    for (Block& block : model.blocks)
      for (const ScaleFold& fold : scale_folds(model.architecture, block))
        if (fold.site == Site::kOutput)
          block = apply_fold(
              block, fold,
              at::exp2(at::arange(fold.channels).remainder(8).to(at::kFloat)));
    // Values stay in bf16: powers of two, of which their biases tell.
    const int kept = walk_folds(
        model, "smoothquant", {"*.attention.output"},
        [&](const BlockVisit& visit, const BlockFisher& costs,
            FoldedBlock folded) {
          Block before = visit.original;
          const at::Tensor scales = (find_linear(before, name)->bias /
                                     find_linear(folded.block, name)->bias)
                                        .to(at::kFloat);
          CHECK(at::equal(
              folded.fisher.outputs.at(name).at(0),
              costs.outputs.at(name).at(0) * scales.unsqueeze(1) * scales));
        });
    CHECK(kept > 0);
  }
}

TEST_CASE("choose_folds: of the experts' own one decision per block") {
  const auto run = run_pass("quantization",
                            "{bits: 3, group_size: 8, method: rtn, folds: awq}",
                            test::tiny_model("glm4_moe"));
  std::vector<std::string> sites;
  for (const Json& fold : run.notes.at("folds"))
    if (fold["layer"] == 1) sites.push_back(fold["site"]);
  CHECK(sites == std::vector<std::string>{"attention", "attention.output",
                                          "mlp", "mlp.shared.down",
                                          "mlp.experts.*.down"});
}

TEST_CASE("choose_folds: what is exact already is left alone, bit for bit") {
  Model start = test::tiny_model();
  at::manual_seed(5);
  for (Block& block : start.blocks)
    visit_block(
        block,
        [](const std::string&, Linear& linear) {
          // On the grid that the extremes give: a step of 2^-9.
          at::Tensor codes = at::randint(-127, 129, dense(linear).sizes(),
                                         at::TensorOptions(at::kFloat));
          codes.select(1, 0).fill_(-127);
          codes.select(1, 1).fill_(128);
          linear.weight = DenseWeight{(codes / 512).to(at::kBFloat16)};
        },
        [](const std::string&, at::Tensor&) {});
  const std::string with = "{bits: 8, symmetric: false, method: rtn, folds: ";
  const Model plain = run_pass("quantization", with + "none}", start).model;
  for (const std::string folds : {"awq", "smoothquant"}) {
    const auto run = run_pass("quantization", with + folds + "}", start);
    CHECK(run.notes.at("folds").size() == 8);
    for (const Json& fold : run.notes.at("folds")) {
      INFO(fold.dump());
      CHECK(fold["loss_without"] == 0);
      CHECK_FALSE(fold["kept"].get<bool>());
    }
    CHECK(test::checksum(run.model) == test::checksum(plain));
  }
}

TEST_CASE("choose_folds: outliers of the input move into the weights") {
  const Model start = with_outliers();
  const std::string with =
      "{bits: 8, method: rtn, activations: static, ignore: ['*.key'], folds: ";
  const Model plain = run_pass("quantization", with + "none}", start).model;
  const auto run = run_pass("quantization", with + "smoothquant}", start);
  at::manual_seed(8);
  const at::Tensor ids = test::random_windows(8, 20);
  CHECK(divergence(start, run.model, ids) <
        0.5 * divergence(start, plain, ids));
  for (std::size_t i = 0; i < start.blocks.size(); ++i) {
    const at::Tensor scales =
        (gain(start, i) / gain(run.model, i)).to(at::kFloat);
    CHECK(scales[3].item<float>() >= 8 * scales.median().item<float>());
    // What is ignored is scaled all the same, without a rounding error.
    const at::Tensor key = dense(start.blocks[i].attention.key);
    CHECK(at::equal(dense(run.model.blocks[i].attention.key),
                    (key.to(at::kFloat) * scales).to(at::kBFloat16)));
    CHECK(at::equal(at::exp2(at::log2(scales).round()), scales));
  }
}

TEST_CASE("choose_folds: with other methods and forms, in every family") {
  for (const std::string& family : test::tiny_families())
    for (const std::string params :
         {"{bits: 8, method: gptq, activations: dynamic, folds: smoothquant}",
          "{format: fp8, activations: dynamic, folds: smoothquant}"})
      check_run(family, params);
}

TEST_CASE("choose_folds: before all of a block learns, in every family") {
  for (const std::string& family : test::tiny_families())
    check_run(family,
              "{bits: 3, group_size: 8, mode: block, iterations: 1, sweeps: 1, "
              "end_to_end: 1, folds: awq, kv_cache_bits: 4}");
}

TEST_CASE("choose_folds: widths by layer, overrides and absent parts") {
  Model start = test::tiny_model();
  start.blocks[0].attention = {};
  start.blocks[0].input_norm = {};
  start.blocks[1].mlp = {};
  start.blocks[1].middle_norm = {};
  update_widths(start);
  const auto run = run_pass(
      "quantization",
      "{bits: auto, average_bits: 5, group_size: 16, method: mse, folds: awq, "
      "overrides: [{layers: ['*.down'], bits: 8}]}",
      start);
  CHECK_NOTHROW(verify_model(run.model));
  std::vector<std::string> sites;
  for (const Json& fold : run.notes.at("folds")) sites.push_back(fold["site"]);
  CHECK(sites == std::vector<std::string>{"mlp", "mlp.down", "attention",
                                          "attention.output"});
}

TEST_CASE("choose_folds: sites where nothing is quantized are passed by") {
  const auto run = run_pass(
      "quantization",
      "{bits: 4, target_layers: ['*.mlp.down'], method: rtn, folds: awq}",
      test::tiny_model());
  for (const Json& fold : run.notes.at("folds"))
    CHECK(fold["site"] == "mlp.down");
}

TEST_CASE("choose_folds: without calibration data they are refused") {
  CHECK(test::error_of(ErrorKind::kConfig, [] {
          run_pass("quantization", "{method: rtn, folds: awq}",
                   test::tiny_model(), /*data=*/false);
        }) == "quantization: folds: awq needs calibration data");
}

TEST_CASE("choose_folds: a real model gains with static int8 activations") {
  const Model start = read_checkpoint(kSource / "examples/glm-books");
  const std::string with =
      "{bits: 8, method: rtn, head_bits: 0, embedding_bits: 0, activations: "
      "static, folds: ";
  const Model plain = run_pass("quantization", with + "none}", start).model;
  const Model folded =
      run_pass("quantization", with + "smoothquant}", start).model;
  at::manual_seed(4);
  const at::Tensor ids = test::random_windows(4, 20, 4096);
  CHECK(divergence(start, folded, ids) < 0.9 * divergence(start, plain, ids));
}
