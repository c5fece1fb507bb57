#include <ATen/core/grad_mode.h>

#include <cmath>
#include <set>

#include "autoglm/model/forward.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::run_pass;

TEST_CASE("quantization: bits, groups and the head's own width") {
  const Model model = run_pass("quantization",
                               "{bits: 4, group_size: 16, head_bits: 8, "
                               "embedding_bits: 8, method: rtn}",
                               test::tiny_model())
                          .model;
  CHECK(describe(model.blocks[0].mlp.down.weight) == "int4 g16 symmetric");
  CHECK(describe(model.head->weight) == "int8 channel symmetric");
  CHECK(describe(model.embedding) == "int8 channel symmetric");
  const Model left =
      run_pass("quantization", "{bits: 3, method: rtn}", test::tiny_model())
          .model;
  CHECK(describe(left.head->weight) == "dense bf16");
  CHECK(describe(left.embedding) == "dense bf16");
  // 32 inputs: the largest fitting group is the whole row.
  CHECK(describe(left.blocks[1].attention.key.weight) ==
        "int3 channel symmetric");
  CHECK(describe(left.blocks[1].mlp.down.weight) == "int3 g16 symmetric");
}

TEST_CASE("quantization: head and embedding are packed where they are much") {
  test::TinySize size;
  size.hidden = 64;
  size.vocabulary = 9000;  // 1.15 million of 1.2 million parameters
  const Model large = test::tiny_model("glm", 1, size);
  const Model packed = run_pass("quantization", "{method: rtn}", large).model;
  CHECK(describe(packed.head->weight) == "int8 channel symmetric");
  CHECK(describe(packed.embedding) == "int8 channel symmetric");
  const Model asked =
      run_pass("quantization", "{method: rtn, head_bits: 0, embedding_bits: 4}",
               large)
          .model;
  CHECK(describe(asked.head->weight) == "dense bf16");
  CHECK(describe(asked.embedding) == "int4 channel symmetric");
}

TEST_CASE("quantization: nothing to do is an error, not a copy") {
  CHECK(test::error_of(ErrorKind::kConfig,
                       [] {
                         run_pass("quantization", "{target_layers: [head]}",
                                  test::tiny_model());
                       }) ==
        "quantization: target_layers selects the head or the embedding alone, "
        "which stay as they are; set head_bits or embedding_bits");
}

TEST_CASE("quantization: what a token's way hangs on stays in full precision") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model start = test::tiny_model(family);
    const Model model = run_pass("quantization", "{method: rtn}", start).model;
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      Block before = start.blocks[i];
      int linears = 0;
      visit_block(
          model.blocks[i],
          [&](const std::string& name, const Linear& part) {
            INFO(name);
            CHECK(std::holds_alternative<QuantizedWeight>(part.weight));
            ++linears;
          },
          [&](const std::string& name, const at::Tensor& part) {
            INFO(name);
            CHECK(part.is_same(*find_tensor(before, name)));
          });
      CHECK(linears >= 4);
    }
  }
}

TEST_CASE("quantization: experts learn from the tokens that are sent to them") {
  const Model start = test::tiny_model("glm4_moe");
  const auto run = run_pass("quantization", "{bits: 2, group_size: 8}", start);
  int learned = 0, searched = 0;
  for (const Json& matrix : run.notes.at("matrices")) {
    INFO(matrix.dump());
    CHECK(matrix["error"] <= matrix["error_rtn"]);
    if (matrix["name"].get<std::string>().find("experts") == std::string::npos)
      continue;
    ++(matrix.contains("error_start") ? learned : searched);
  }
  // Four experts of three matrices; 240 tokens, two experts each.
  CHECK(learned + searched == 12);
  CHECK(learned >= 6);
}

TEST_CASE("quantization: an expert without tokens is rounded all the same") {
  Model start = test::tiny_model("glm4_moe");
  // The bias alone decides: experts 0 and 1 get everything.
  start.blocks[1].mixture.correction_bias =
      at::tensor({10.0f, 10.0f, 0.0f, 0.0f}).to(at::kBFloat16);
  const auto run = run_pass("quantization", "{bits: 3, group_size: 8}", start);
  for (const Json& matrix : run.notes.at("matrices")) {
    const auto name = matrix["name"].get<std::string>();
    INFO(name);
    if (name.find("experts.0.") != std::string::npos)
      CHECK(matrix.contains("error_start"));
    if (name.find("experts.3.") != std::string::npos)
      CHECK_FALSE(matrix.contains("error_start"));
  }
  CHECK_NOTHROW(verify_model(run.model));
}

TEST_CASE("quantization: learned rounding beats nearest rounding, by matrix") {
  const auto run =
      run_pass("quantization", "{bits: 3, group_size: 16, symmetric: false}",
               test::tiny_model());
  double learned = 0, nearest = 0;
  for (const Json& matrix : run.notes.at("matrices")) {
    INFO(matrix.dump());
    CHECK(matrix["error"] <= matrix["error_rtn"]);
    learned += matrix["error"].get<double>();
    nearest += matrix["error_rtn"].get<double>();
  }
  CHECK(learned < 0.95 * nearest);
}

TEST_CASE("quantization: only what the globs select") {
  const Model model =
      run_pass("quantization",
               "{target_layers: [encoder.block.*.mlp.*], method: rtn}",
               test::tiny_model())
          .model;
  CHECK(describe(model.blocks[0].mlp.down.weight) == "int8 channel symmetric");
  CHECK(describe(model.blocks[0].attention.query.weight) == "dense bf16");
  CHECK(describe(model.embedding) == "dense bf16");
}

TEST_CASE("quantization: a group that does not divide is refused in the plan") {
  const std::string text = test::error_of(ErrorKind::kConfig, [&] {
    test::planned("quantization", "{bits: 4, group_size: 20}",
                  test::tiny_model());
  });
  CHECK(text.find(
            "do not divide into groups of 20; -1 (a whole row), 16 would") !=
        std::string::npos);
}

TEST_CASE("quantization: a second time it is refused") {
  const Model once =
      run_pass("quantization", "{method: rtn}", test::tiny_model()).model;
  CHECK(test::error_of(ErrorKind::kConfig, [&] {
          run_pass("quantization", "{method: rtn}", once);
        }).find("is already int8 channel symmetric") != std::string::npos);
}

TEST_CASE("quantization: with all learning off adaquant is rtn bit for bit") {
  const Model start = test::tiny_model();
  const auto rounded = [&](const std::string& method) {
    return test::checksum(
        run_pass("quantization",
                 "{bits: 3, group_size: 16, iterations: 0, sweeps: 0, "
                 "scale_search: false, error_feedback: false, " +
                     method + "}",
                 start)
            .model);
  };
  const double nearest = rounded("method: rtn");
  CHECK(rounded("method: adaquant, mode: layer") == nearest);
  CHECK(rounded("method: adaquant, mode: block") == nearest);
}

TEST_CASE("quantization: a block that learns is never worse than its start") {
  for (const std::string optimizer : {"adam", "sign"}) {
    INFO(optimizer);
    const auto run =
        run_pass("quantization",
                 "{bits: 2, group_size: 16, mode: block, iterations: 40, "
                 "scale_search: false, error_feedback: false, sweeps: 0, "
                 "optimizer: " +
                     optimizer + "}",
                 test::tiny_model());
    double start = 0, end = 0;
    for (const Json& block : run.notes.at("blocks")) {
      INFO(block.dump());
      CHECK(block["loss"] <= block["loss_start"]);
      start += block["loss_start"].get<double>();
      end += block["loss"].get<double>();
    }
    CHECK(end < start);
    CHECK_NOTHROW(verify_model(run.model));
  }
}

TEST_CASE("quantization: blocks learn in every family") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const auto run = run_pass(
        "quantization",
        "{bits: 3, group_size: 8, mode: block, iterations: 4, end_to_end: 2}",
        test::tiny_model(family));
    CHECK_NOTHROW(verify_model(run.model));
    const Json& end = run.notes.at("end_to_end");
    CHECK(end["kl"] <= end["kl_start"]);
  }
}

TEST_CASE("quantization: steps at the end lower the divergence they see") {
  const auto run = run_pass(
      "quantization",
      "{bits: 2, group_size: 16, iterations: 0, sweeps: 0, end_to_end: 40, "
      "scale_search: false, error_feedback: false, end_to_end_rate: 0.01}",
      test::tiny_model());
  const Json& end = run.notes.at("end_to_end");
  INFO(end.dump());
  CHECK(end["kl"].get<double>() < 0.98 * end["kl_start"].get<double>());
}

TEST_CASE("quantization: overrides and ignore change single matrices") {
  const Model model =
      run_pass("quantization",
               "{bits: 4, group_size: 16, method: rtn, ignore: ['*.gate_up'], "
               "overrides: [{layers: ['*.down'], bits: 8, group_size: 8, "
               "symmetric: false}, {layers: [layers.1.*], method: mse}]}",
               test::tiny_model())
          .model;
  CHECK(describe(model.blocks[0].mlp.down.weight) == "int8 g8 asymmetric");
  CHECK(describe(model.blocks[1].attention.query.weight) ==
        "int4 g16 symmetric");
  for (const NamedLinear& linear : named_linears(model))
    if (linear.name.ends_with(".gate_up"))
      CHECK(describe(weight_of(model, linear.name)) == "dense bf16");
}

TEST_CASE("quantization: widths by layer keep the average that was asked") {
  const auto run = run_pass("quantization",
                            "{bits: auto, average_bits: 5, group_size: 16, "
                            "method: mse}",
                            test::tiny_model());
  CHECK(run.notes.at("allocation")["average_bits"].get<double>() <= 5.0);
  std::set<std::int64_t> widths;
  for (const Json& matrix : run.notes.at("matrices"))
    widths.insert(matrix["bits"].get<std::int64_t>());
  CHECK(widths.size() >= 1);
  CHECK(test::error_of(ErrorKind::kConfig, [] {
          run_pass("quantization", "{bits: auto}", test::tiny_model());
        }) == "quantization: bits: auto needs average_bits or max_size");
}

TEST_CASE("quantization: NaN in a weight is a clear error") {
  Model start = test::tiny_model();
  at::Tensor broken =
      to_dense(start.blocks[1].mlp.down.weight, at::kBFloat16).clone();
  broken[0][0] = std::nanf("");
  start.blocks[1].mlp.down.weight = DenseWeight{broken};
  CHECK(test::error_of(ErrorKind::kNumeric, [&] {
          run_pass("quantization", "{method: rtn}", start);
        }) == "quantization: layers.1.mlp.down holds NaN or infinity");
}

TEST_CASE("quantization: e4m3 weights, planned as they are stored") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model start = test::tiny_model(family);
    const Model model =
        run_pass("quantization", "{format: fp8, activations: dynamic}", start)
            .model;
    CHECK_NOTHROW(verify_model(model));
    const Model planned = test::planned(
        "quantization", "{format: fp8, activations: dynamic}", start);
    for (const NamedLinear& linear : named_linears(model)) {
      if (linear.name == "head" || linear.name == "embedding") continue;
      INFO(linear.name);
      const Weight& weight = weight_of(model, linear.name);
      CHECK(std::holds_alternative<Float8Weight>(weight));
      CHECK(activations(weight).quantized);
      CHECK(bytes(weight_of(planned, linear.name)) == bytes(weight));
      const at::Tensor before =
          to_dense(weight_of(start, linear.name), at::kFloat);
      const at::Tensor error = to_dense(weight, at::kFloat) - before;
      CHECK((error.norm() / before.norm()).item<double>() < 0.04);
    }
  }
}

TEST_CASE("quantization: a static activation covers what calibration brings") {
  const auto run =
      run_pass("quantization", "{bits: 8, method: gptq, activations: static}",
               test::tiny_model());
  CHECK_NOTHROW(verify_model(run.model));
  // The first norm's output, straight from the embedding, which is not rounded.
  at::manual_seed(3);
  const at::Tensor ids =
      test::random_windows(12, 20, run.model.architecture.vocabulary);
  const at::NoGradGuard no_grad;
  AttentionContext context = attention_context(run.model, ids);
  const double greatest = site_input(run.model, run.model.blocks[0], 0,
                                     embed(run.model, run.model.embedding, ids,
                                           context, at::kFloat),
                                     context, Site::kAttention)
                              .abs()
                              .max()
                              .item<double>();
  const ActivationScheme scheme =
      activations(run.model.blocks[0].attention.query.weight);
  REQUIRE(scheme.quantized);
  REQUIRE_FALSE(scheme.dynamic());
  CHECK(scheme.scale.item<double>() == Approx(greatest / 127).epsilon(1e-4));
}

TEST_CASE("quantization: activations that cannot be rounded are refused") {
  const auto refusal = [](const std::string& params, bool data = true,
                          const std::string& family = "glm") {
    return test::error_of(ErrorKind::kConfig, [&] {
      run_pass("quantization", params, test::tiny_model(family), data);
    });
  };
  CHECK(refusal("{bits: 4, activations: dynamic}")
            .find("needs fp8, or 8 symmetric bits with one scale per "
                  "row, but layers.0.attention.query has 4 bits") !=
        std::string::npos);
  CHECK(refusal("{bits: 8, symmetric: false, activations: dynamic}")
            .find("has 8 bits with zero points") != std::string::npos);
  CHECK(refusal("{bits: 8, activations: static}", false)
            .find("activations: static needs calibration data") !=
        std::string::npos);
  CHECK(refusal("{bits: 8, activations: static}", true, "glm4_moe")
            .find("is a routed expert") != std::string::npos);
  CHECK(refusal("{bits: 4, format: fp8}")
            .find("fp8 has 8 bits and one scale per row") != std::string::npos);
  CHECK(refusal("{bits: auto, average_bits: 8, format: fp8}")
            .find("bits: auto chooses among integer widths") !=
        std::string::npos);
  CHECK(refusal("{kv_cache_bits: 5}")
            .find("kv_cache_bits must be 0, 4 or 8, but is 5") !=
        std::string::npos);
}

TEST_CASE("quantization: the cache of keys and values in few bits") {
  const Model model =
      run_pass("quantization", "{method: rtn, kv_cache_bits: 4}",
               test::tiny_model())
          .model;
  CHECK(model.architecture.kv_cache_bits == 4);
  CHECK_NOTHROW(verify_model(model));
}

TEST_CASE("quantization: one calibration window is enough to go on") {
  Model model = test::tiny_model();
  PassContext context;
  context.calibration =
      test::random_windows(1, 12, model.architecture.vocabulary);
  context.prefix = 2;
  find_pass("quantization")
      ->make(parse_config("{bits: 3, group_size: 16}", "p"))
      ->run(model, context);
  CHECK_NOTHROW(verify_model(model));
}

TEST_CASE("quantization: constant columns and dead channels stay finite") {
  Model start = test::tiny_model();
  at::Tensor down =
      to_dense(start.blocks[0].mlp.down.weight, at::kFloat).clone();
  down.select(1, 3).fill_(0.5);
  down.select(1, 4).zero_();
  down.select(0, 2).zero_();
  start.blocks[0].mlp.down.weight = DenseWeight{down.to(at::kBFloat16)};
  at::Tensor up =
      to_dense(start.blocks[0].mlp.gate_up.weight, at::kFloat).clone();
  up.select(0, 5).zero_();  // an input of down that is always zero
  start.blocks[0].mlp.gate_up.weight = DenseWeight{up.to(at::kBFloat16)};
  for (const std::string params :
       {"{bits: 2, group_size: 16}",
        "{bits: 2, group_size: 16, symmetric: false, mode: block, "
        "iterations: 4}",
        "{bits: 3, group_size: 16, method: gptq}"}) {
    INFO(params);
    const Model model = run_pass("quantization", params, start).model;
    CHECK_NOTHROW(verify_model(model));
    const at::Tensor after =
        to_dense(model.blocks[0].mlp.down.weight, at::kFloat);
    CHECK(at::isfinite(after).all().item<bool>());
    const at::Tensor logits = forward(
        model, test::random_windows(1, 6, model.architecture.vocabulary));
    CHECK(at::isfinite(logits).all().item<bool>());
  }
  down[1][1] = NAN;
  start.blocks[0].mlp.down.weight = DenseWeight{down.to(at::kBFloat16)};
  CHECK(test::error_of(ErrorKind::kNumeric, [&] {
          run_pass("quantization", "{bits: 4, group_size: 16}", start);
        }).find("NaN") != std::string::npos);
}
