// structured_pruning without whole routed experts: the model that is left.
#include "autoglm/core/log.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/footprint.h"
#include "autoglm/model/forward.h"
#include "tests/model/golden.h"
#include "tests/passes/pass_runs.h"
#include "tests/passes/pruning_models.h"
#include "tests/support/catch.h"
#include "tests/support/relative.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::Golden;
using test::relative_peak;
using test::run_pass;
using test::tiny_mixture;

namespace {

const std::vector<std::string>& mixtures() {
  static const std::vector<std::string> names = {"glm4_moe", "glm4_moe_air",
                                                 "glm4_moe_lite", "glm_moe_dsa",
                                                 "glm_moe_dsa_sparse"};
  return names;
}

// The router never chooses one of `experts`.
Model with_masked_experts(Model model, const at::Tensor& experts) {
  for (Block& block : model.blocks)
    if (block.is_mixture())
      block.mixture.correction_bias = block.mixture.correction_bias.index_fill(
          0, experts, -std::numeric_limits<float>::infinity());
  return model;
}

}  // namespace

TEST_CASE(
    "structured_pruning: a masked router and fewer experts are the same") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : mixtures()) {
    INFO(name);
    const Golden golden(name);
    const BlockWidths& from = golden.model.architecture.blocks.back();
    const RouterRule& rule = golden.model.architecture.router;
    // The first of every group, in groups of at least four.
    const std::int64_t size = from.experts / rule.groups;
    const at::Tensor masked =
        at::arange(rule.groups, at::kLong) * size + (size > 4 ? 1 : 0);
    const Model start = with_masked_experts(golden.model, masked);
    const auto run =
        run_pass("structured_pruning",
                 fmt::format("{{sparsity_ratio: 0, repair: none, experts: {}}}",
                             1.0 / static_cast<double>(size)),
                 start);
    CHECK(run.model.architecture.blocks.back().experts ==
          from.experts - rule.groups);
    CHECK(run.notes.at("layers").back()["experts_error_cut"].get<double>() <
          1e-10);
    const at::Tensor wanted = forward(start, golden["input_ids"]);
    CHECK(relative_peak(forward(run.model, golden["input_ids"]), wanted) <=
          1e-5);
    // The mask is no trifle.
    CHECK(relative_peak(wanted, forward(golden.model, golden["input_ids"])) >
          1e-3);
  }
}

TEST_CASE("structured_pruning: fewer experts written and read are the same") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : mixtures())
    for (const char* layers : {"*", "layers.1.*"}) {
      INFO(name << " " << layers);
      const Golden golden(name);
      const Model start = read_checkpoint(test::kGolden / name);
      const Model out =
          run_pass("structured_pruning",
                   fmt::format("{{sparsity_ratio: 0.3, experts: 0.25, "
                               "target_layers: ['{}']}}",
                               layers),
                   start)
              .model;
      CHECK_NOTHROW(verify_model(out));
      const test::TemporaryFolder folder;
      write_checkpoint(out, folder.path());
      const Model again = read_checkpoint(folder.path());
      CHECK((again.architecture.blocks == out.architecture.blocks));
      CHECK(again.architecture.blocks[1].experts <
            start.architecture.blocks[1].experts);
      CHECK(again.config.contains("per_layer_config") !=
            out.architecture.uniform());
      CHECK(at::equal(forward(again, golden["input_ids"]),
                      forward(out, golden["input_ids"])));
    }
}

TEST_CASE("structured_pruning: numbers of experts that differ per layer") {
  const Model start = tiny_mixture(8, 2, {.layers = 3});
  const std::string params =
      "{sparsity_ratio: 0, experts: 0.5, target_layers: [layers.2.*]";
  const Model out = run_pass("structured_pruning", params + "}", start).model;
  const Json config = write_architecture(out.config, out.architecture);
  CHECK(config["n_routed_experts"] == 8);
  CHECK(config["per_layer_config"] == Json{{"2", {{"n_routed_experts", 4}}}});
  CHECK(test::error_of(ErrorKind::kConfig,
                       [&] {
                         run_pass("structured_pruning",
                                  params + ", uniform: true}", start);
                       }) ==
        "structured_pruning: uniform: true, but layers end with different "
        "numbers of routed experts; select all of them");
  const Json same =
      run_pass("structured_pruning",
               "{sparsity_ratio: 0, experts: 0.5, uniform: true}", start)
          .model.config;
  CHECK_FALSE(same.contains("per_layer_config"));
}

TEST_CASE("structured_pruning: no share of experts changes nothing") {
  for (const std::string& name : mixtures()) {
    INFO(name);
    const Model start = read_checkpoint(test::kGolden / name);
    const Model out =
        run_pass("structured_pruning", "{sparsity_ratio: 0, experts: 0}", start)
            .model;
    CHECK(test::checksum(out) == test::checksum(start));
    CHECK(out.extra.size() == start.extra.size());
    // 4 % of eight or twelve is less than half an expert.
    CHECK(test::checksum(run_pass("structured_pruning",
                                  "{sparsity_ratio: 0, experts: 0.04}", start)
                             .model) == test::checksum(start));
  }
}

TEST_CASE(
    "structured_pruning: the shared expert takes over exactly if it can") {
  // All tokens go to expert 0, then to expert 1; both see what the shared one
  // sees, so that a change of its down is worth the same as theirs.
  Model start = to_compute(test::preferring(tiny_mixture(4, 1), {9, 8, 0, 0}),
                           at::kCPU, at::kFloat);
  Mixture& mixture = start.blocks[1].mixture;
  for (const std::size_t e : {0, 1}) {
    mixture.experts[e].gate = mixture.shared.gate;
    mixture.experts[e].up = mixture.shared.up;
  }
  const at::Tensor first =
      std::get<DenseWeight>(mixture.experts[0].down.weight).value;
  const at::Tensor second =
      std::get<DenseWeight>(mixture.experts[1].down.weight).value;
  // The lightest goes.
  mixture.experts[0].down.weight = DenseWeight{first * 0.1};
  const auto run =
      run_pass("structured_pruning",
               "{sparsity_ratio: 0, experts: 0.25, importance: l1}", start);
  const Json& note = run.notes.at("layers")[1];
  CHECK(note["dropped_experts"] == Json{0});
  CHECK(note["experts_error_cut"].get<double>() > 1e-2);
  CHECK(note["experts_error"].get<double>() <
        1e-3 * note["experts_error_cut"].get<double>());
  const Linear& down = run.model.blocks[1].mixture.shared.down;
  const at::Tensor wanted =
      std::get<DenseWeight>(mixture.shared.down.weight).value +
      1.5 * (first * 0.1 - second);
  CHECK(relative_peak(std::get<DenseWeight>(down.weight).value, wanted) < 0.05);
}

TEST_CASE("structured_pruning: no repair of experts is worse than the cut") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : mixtures())
    for (const char* repair : {"least_squares", "bias"}) {
      INFO(name << " " << repair);
      const Model start = read_checkpoint(test::kGolden / name);
      const auto run =
          run_pass("structured_pruning",
                   fmt::format("{{sparsity_ratio: 0, experts: 0.25, "
                               "repair: {}}}",
                               repair),
                   start);
      CHECK_NOTHROW(verify_model(run.model));
      for (const Json& note : run.notes.at("layers")) {
        if (!note.contains("experts")) continue;
        CHECK(note["experts_error_cut"].get<double>() > 0);
        CHECK(note["experts_error"] <= note["experts_error_cut"]);
      }
    }
}

TEST_CASE("structured_pruning: experts go with heads and channels, allocated") {
  set_log_level(LogLevel::kOff);
  const Model start = read_checkpoint(test::kGolden / "glm4_moe_air");
  const auto parameters = [&](const std::string& how) {
    const Model out =
        run_pass("structured_pruning",
                 "{sparsity_ratio: 0.5, experts: 0.25, " + how + "}", start)
            .model;
    CHECK_NOTHROW(verify_model(out));
    CHECK(out.architecture.blocks[1].experts == 9);
    return footprint(out).total().parameters;
  };
  const std::uint64_t uniform = parameters("importance: taylor");
  for (const char* how :
       {"allocation: global, importance: taylor", "allocation: sensitivity",
        "allocation: global, importance: obs"}) {
    INFO(how);
    CHECK(parameters(how) <= uniform);
  }
}

TEST_CASE("structured_pruning: layers for further tokens go with the experts") {
  set_log_level(LogLevel::kOff);
  const Model start = read_checkpoint(test::kGolden / "glm4_moe");
  REQUIRE(start.extra.size() > 0);
  REQUIRE(start.config["num_nextn_predict_layers"] == 1);
  const auto cut = [&](const std::string& more) {
    return run_pass("structured_pruning",
                    "{sparsity_ratio: 0, experts: 0.25" + more + "}", start)
        .model;
  };
  const Model out = cut("");
  CHECK(out.extra.empty());
  CHECK(out.config["num_nextn_predict_layers"] == 0);
  CHECK(out.architecture.next_token_blocks == 0);
  // One mixture keeps all its experts, and config.json its number.
  CHECK(cut(", target_layers: [layers.1.*]").extra.size() ==
        start.extra.size());
}

TEST_CASE("structured_pruning: quantized experts may go") {
  const Model quantized =
      run_pass("quantization",
               "{method: rtn, target_layers: ['layers.1.mlp.*']}",
               tiny_mixture(4, 2))
          .model;
  const auto run = run_pass("structured_pruning",
                            "{sparsity_ratio: 0, experts: 0.5}", quantized);
  CHECK_NOTHROW(verify_model(run.model));
  CHECK(run.model.architecture.blocks[1].experts == 2);
  CHECK_FALSE(run.notes.at("layers")[1].contains("experts_error"));
}

TEST_CASE("structured_pruning: the plan of fewer experts is what comes out") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : mixtures())
    for (const char* params :
         {"{sparsity_ratio: 0, experts: 0.3}", "{experts: 0.9}",
          "{sparsity_ratio: 0.5, experts: 0.5, target_layers: [layers.1.*]}"}) {
      INFO(name << " " << params);
      test::check_plan("structured_pruning", params,
                       read_checkpoint(test::kGolden / name));
    }
}
