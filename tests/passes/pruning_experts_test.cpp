// structured_pruning on mixtures of experts: which are cut, how far, and by
// what.
#include "tests/passes/pass_runs.h"
#include "tests/passes/pruning_models.h"
#include "tests/support/catch.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::run_pass;

namespace {

BlockWidths pruned(const Model& start, const std::string& params,
                   std::size_t layer = 1) {
  return run_pass("structured_pruning", params, start)
      .model.architecture.blocks[layer];
}

// The correction bias alone decides: every token goes to experts 0 and 1.
Model with_two_experts_used(Model model) {
  return test::preferring(std::move(model), {10, 10, 0, 0});
}

at::Tensor values(const Linear& linear) {
  return to_dense(linear.weight, at::kFloat);
}

}  // namespace

TEST_CASE("structured_pruning: dense blocks and mixtures of one model") {
  const auto run = run_pass("structured_pruning", "{sparsity_ratio: 0.5}",
                            test::tiny_model("glm4_moe"));
  CHECK((run.model.architecture.blocks[0] == BlockWidths{2, 2, 24}));
  CHECK((run.model.architecture.blocks[1] == BlockWidths{2, 2, 12, 4, 12}));
  const Json& notes = run.notes.at("layers");
  CHECK(notes[0]["ffn"] == 24);
  CHECK_FALSE(notes[0].contains("shared_ffn"));
  CHECK(notes[1]["ffn"] == 12);
  CHECK(notes[1]["shared_ffn"] == 12);
  CHECK(notes[1]["query_heads"] == 2);
}

TEST_CASE("structured_pruning: shared experts are so many routed ones") {
  const auto models = test::pruning_models();
  // 24 * 0.6 = 14.4.
  CHECK((pruned(models.at("two shared experts"), "{sparsity_ratio: 0.4}") ==
         BlockWidths{2, 2, 14, 4, 28}));
  CHECK((pruned(models.at("no shared expert"), "{sparsity_ratio: 0.4}") ==
         BlockWidths{2, 2, 14, 4, 0}));
  // 40 is no multiple of 24: the same share of its own width.
  CHECK((pruned(models.at("an odd shared expert"), "{sparsity_ratio: 0.4}") ==
         BlockWidths{2, 2, 14, 4, 24}));
  CHECK((pruned(models.at("an odd shared expert"),
                "{sparsity_ratio: 0.4, align: 8}") ==
         BlockWidths{2, 2, 16, 4, 24}));
}

TEST_CASE("structured_pruning: at the extreme an expert keeps one unit") {
  const Model start = test::tiny_model("glm_moe_dsa");
  CHECK((pruned(start, "{sparsity_ratio: 0.9}") == BlockWidths{1, 1, 2, 4, 2}));
  CHECK((pruned(start, "{sparsity_ratio: 0.9, align: 16}") ==
         BlockWidths{1, 1, 16, 4, 16}));
  CHECK((pruned(start, "{sparsity_ratio: 0.9, align: 32}") ==
         BlockWidths{1, 1, 24, 4, 24}));
}

TEST_CASE("structured_pruning: one expert's name selects all of its block") {
  const Model start = test::tiny_model("glm4_moe");
  for (const char* name : {"mlp.experts.2.up", "mlp.shared.down"}) {
    INFO(name);
    const std::string params = fmt::format(
        "{{sparsity_ratio: 0.5, target_layers: [layers.1.{}]}}", name);
    CHECK((pruned(start, params) == BlockWidths{4, 2, 12, 4, 12}));
    CHECK((pruned(start, params, 0) == start.architecture.blocks[0]));
  }
  const std::string key =
      "{sparsity_ratio: 0.5, target_layers: [layers.1.attention.key]}";
  CHECK((pruned(start, key) == BlockWidths{2, 2, 24, 4, 24}));
}

TEST_CASE("structured_pruning: by hand, an expert without tokens goes by l1") {
  Model start = with_two_experts_used(test::tiny_model("glm4_moe"));
  // Channel j of expert 3 weighs j + 1 in down and, in gate, 100 more where j
  // is a multiple of 8: of those, 0 and 8 stay, and the last ten.
  Mlp& idle = start.blocks[1].mixture.experts[3];
  const at::Tensor strength = at::arange(1, 25, at::kFloat);
  at::Tensor down = at::zeros({32, 24});
  down[0] = strength;
  at::Tensor gate = at::zeros({24, 32});
  for (const int j : {0, 8, 16}) gate[j][5] = -100;
  idle.down.weight = DenseWeight{down.to(at::kBFloat16)};
  idle.gate.weight = DenseWeight{gate.to(at::kBFloat16)};
  idle.up.weight = DenseWeight{at::zeros({24, 32}, at::kBFloat16)};
  const auto run =
      run_pass("structured_pruning", "{sparsity_ratio: 0.5}", start);
  CHECK(run.notes.at("layers")[1]["experts_without_data"] == 2);
  const at::Tensor kept =
      at::tensor({0, 8, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}, at::kLong);
  const Mlp& cut = run.model.blocks[1].mixture.experts[3];
  CHECK(at::equal(values(cut.down)[0], strength.index_select(0, kept)));
  CHECK(at::equal(values(cut.gate), gate.index_select(0, kept)));
}

TEST_CASE("structured_pruning: where all experts see tokens none is noted") {
  const auto run =
      run_pass("structured_pruning", "{sparsity_ratio: 0.5}",
               test::changed_model("glm4_moe", {{"num_experts_per_tok", 4}}));
  const Json& note = run.notes.at("layers")[1];
  CHECK_FALSE(note.contains("experts_without_data"));
  CHECK(note["mlp_error"] < note["mlp_error_cut"]);
  CHECK(note["shared_error"] <= note["shared_error_cut"]);
}

TEST_CASE("structured_pruning: experts without data leave the means alone") {
  Model start = with_two_experts_used(test::tiny_model("glm4_moe"));
  const auto with = [&](float scale) {
    Model model = start;
    for (const std::size_t e : {2, 3}) {
      Linear& down = model.blocks[1].mixture.experts[e].down;
      down.weight =
          DenseWeight{std::get<DenseWeight>(down.weight).value * scale};
    }
    return run_pass("structured_pruning", "{sparsity_ratio: 0.5}", model)
        .notes.at("layers")[1]["mlp_error"]
        .get<double>();
  };
  CHECK(with(1) > 0);
  CHECK(with(1) == with(100));
}

TEST_CASE("structured_pruning: what experts see decides, if they see enough") {
  Model start = with_two_experts_used(test::tiny_model("glm4_moe"));
  // Channels 0 to 11 of experts 0 and 3 have huge weights and never fire: their
  // up rows are zero. Only an expert that sees tokens can tell.
  for (const std::size_t e : {0, 3}) {
    Mlp& expert = start.blocks[1].mixture.experts[e];
    const at::Tensor silent = at::arange(12, at::kLong);
    expert.up.weight = DenseWeight{
        std::get<DenseWeight>(expert.up.weight).value.index_fill(0, silent, 0)};
    expert.gate.weight = DenseWeight{std::get<DenseWeight>(expert.gate.weight)
                                         .value.index_fill(0, silent, 50)};
  }
  const Model out =
      run_pass("structured_pruning",
               "{sparsity_ratio: 0.5, heads: false, repair: none}", start)
          .model;
  const auto& before = start.blocks[1].mixture.experts;
  const auto& after = out.blocks[1].mixture.experts;
  CHECK(at::equal(values(after[0].gate), values(before[0].gate).slice(0, 12)));
  CHECK(
      at::equal(values(after[3].gate), values(before[3].gate).slice(0, 0, 12)));
}

TEST_CASE("structured_pruning: quantized matrices are named in every layout") {
  const auto message = [](const std::string& family, const std::string& target,
                          const std::string& options = "") {
    const Model quantized =
        run_pass("quantization",
                 fmt::format("{{method: rtn, target_layers: ['{}']}}", target),
                 test::tiny_model(family))
            .model;
    return test::error_of(ErrorKind::kConfig, [&] {
      run_pass("structured_pruning",
               fmt::format("{{sparsity_ratio: 0.5{}}}", options), quantized);
    });
  };
  const auto expected = [](const std::string& name) {
    return "structured_pruning: " + name +
           " is quantized; put pruning before quantization";
  };
  CHECK(message("chatglm", "*query_key_value*") ==
        expected("layers.0.attention.query_key_value"));
  CHECK(message("glm4_moe_lite", "*key_value_b") ==
        expected("layers.0.attention.key_value_b"));
  CHECK(message("glm4_moe", "layers.1.mlp.experts.3.*", ", heads: false") ==
        expected("layers.1.mlp.experts.3.gate"));
  CHECK(message("glm4_moe", "layers.1.mlp.shared.down") ==
        expected("layers.1.mlp.shared.down"));
  CHECK(message("glm-2021", "layers.1.mlp.up") == expected("layers.1.mlp.up"));
}

TEST_CASE("structured_pruning: quantized matrices that stay are no hindrance") {
  // Shared keys, and the low-rank halves of latent attention.
  for (const auto& [family, target] : std::map<std::string, std::string>{
           {"glm", "*attention.key"}, {"glm_moe_dsa", "*query_a"}}) {
    INFO(family);
    const Model quantized =
        run_pass("quantization",
                 fmt::format("{{method: rtn, target_layers: ['{}']}}", target),
                 test::tiny_model(family))
            .model;
    CHECK_NOTHROW(verify_model(
        run_pass("structured_pruning", "{sparsity_ratio: 0.5}", quantized)
            .model));
  }
}
