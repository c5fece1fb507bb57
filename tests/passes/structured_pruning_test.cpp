#include "tests/passes/pass_runs.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::run_pass;

TEST_CASE("structured_pruning: cuts channels and the same heads per group") {
  const Model start = test::tiny_model();
  const auto run =
      run_pass("structured_pruning", "{sparsity_ratio: 0.4, align: 8}", start);
  // 48 * 0.6 = 28.8 -> 32 or 24; 2 heads per group * 0.6 = 1.2 -> 1.
  for (const BlockWidths& w : run.model.architecture.blocks) {
    CHECK(w.ffn == 32);
    CHECK(w.query_heads == 2);
    CHECK(w.kv_heads == 2);
  }
  CHECK(run.notes.at("layers").size() == 2);
}

TEST_CASE("structured_pruning: by hand, the weakest channels go") {
  Model start = test::tiny_model();
  // Channel j of the MLP gets the strength j + 1; l1 keeps the upper half.
  const at::Tensor strength = at::arange(1, 49, at::kFloat);
  start.blocks[0].mlp.down.weight =
      DenseWeight{strength.expand({32, 48}).to(at::kBFloat16)};
  const at::Tensor rows = at::arange(96, at::kFloat).unsqueeze(1);
  start.blocks[0].mlp.gate_up.weight =
      DenseWeight{(rows.expand({96, 32}) * 1e-3).to(at::kBFloat16)};
  const auto run =
      run_pass("structured_pruning",
               "{sparsity_ratio: 0.5, align: 1, importance: l1, repair: none, "
               "target_layers: [layers.0.mlp.*]}",
               start);
  const Mlp& mlp = run.model.blocks[0].mlp;
  CHECK(at::equal(to_dense(mlp.down.weight, at::kFloat),
                  strength.narrow(0, 24, 24).expand({32, 24})));
  const at::Tensor kept = to_dense(mlp.gate_up.weight, at::kFloat).select(1, 0);
  CHECK(kept[0].item<float>() == Approx(0.024).epsilon(0.01));
  CHECK(kept[24].item<float>() == Approx(0.072).epsilon(0.01));
  CHECK(run.model.architecture.blocks[0].query_heads == 4);
  CHECK(run.model.architecture.blocks[1].ffn == 48);
}

TEST_CASE("structured_pruning: by hand, heads go by group or by strength") {
  // Head h of 4 weighs 4 - h in every column of output, nothing else matters.
  const auto kept = [](const test::TinySize& size) {
    Model start = test::tiny_model("glm", 1, size);
    const at::Tensor strength =
        at::arange(4, 0, -1, at::kFloat).repeat_interleave(8);
    for (Block& block : start.blocks) {
      Attention& attention = block.attention;
      attention.output.weight =
          DenseWeight{strength.expand({32, 32}).to(at::kBFloat16)};
      for (Linear* linear :
           {&attention.query, &attention.key, &attention.value})
        linear->weight =
            DenseWeight{at::ones_like(to_dense(linear->weight, at::kBFloat16))};
    }
    const auto run = run_pass("structured_pruning",
                              "{sparsity_ratio: 0.5, importance: l1, "
                              "repair: none, ffn: false}",
                              start);
    const at::Tensor left =
        to_dense(run.model.blocks[0].attention.output.weight, at::kFloat)[0];
    return std::vector<float>{left[0].item<float>(), left[8].item<float>()};
  };
  // Heads 0 and 1 share a key, as do 2 and 3.
  CHECK(kept({.kv_heads = 2}) == std::vector<float>{4, 2});
  CHECK(kept({.kv_heads = 4}) == std::vector<float>{4, 3});
  CHECK(kept({.kv_heads = 1}) == std::vector<float>{4, 3});
}

TEST_CASE("structured_pruning: a ratio of 0 changes nothing") {
  const Model start = test::tiny_model();
  CHECK(
      test::checksum(
          run_pass("structured_pruning", "{sparsity_ratio: 0}", start).model) ==
      test::checksum(start));
}

TEST_CASE("structured_pruning: a dead channel costs nothing to remove") {
  Model start = test::tiny_model();
  at::Tensor down =
      to_dense(start.blocks[0].mlp.down.weight, at::kFloat).clone();
  for (const int j : {3, 17, 40}) down.select(1, j).zero_();
  start.blocks[0].mlp.down.weight = DenseWeight{down.to(at::kBFloat16)};
  const auto run = run_pass("structured_pruning",
                            "{sparsity_ratio: 0.0625, align: 1, heads: false, "
                            "target_layers: [layers.0]}",
                            start);
  CHECK(run.model.architecture.blocks[0].ffn == 45);
  CHECK(run.notes.at("layers")[0]["mlp_error_cut"].get<double>() < 1e-5);
}

TEST_CASE("structured_pruning: the repair is never worse than the plain cut") {
  const auto run = run_pass("structured_pruning", "{sparsity_ratio: 0.4}",
                            test::tiny_model("glm4"));
  for (const Json& layer : run.notes.at("layers")) {
    CHECK(layer["mlp_error"] <= layer["mlp_error_cut"]);
    CHECK(layer["attention_error"] <= layer["attention_error_cut"]);
    CHECK(layer["mlp_error_cut"].get<double>() > 0);
  }
}

TEST_CASE("structured_pruning: at the extreme one head and one unit stay") {
  const auto run =
      run_pass("structured_pruning", "{sparsity_ratio: 0.9, align: 16}",
               test::tiny_model());
  CHECK(run.model.architecture.blocks[0] == BlockWidths{2, 2, 16});
  // One key for all heads, and a key for each.
  for (const std::int64_t kv_heads : {1, 4})
    CHECK((run_pass("structured_pruning", "{sparsity_ratio: 0.9, align: 16}",
                    test::tiny_model("glm", 1, {.kv_heads = kv_heads}))
               .model.architecture.blocks[0] == BlockWidths{1, 1, 16}));
}

TEST_CASE("structured_pruning: quantized weights are refused with advice") {
  const Model quantized =
      run_pass("quantization", "{method: rtn}", test::tiny_model()).model;
  Model float8 = test::tiny_model();
  Weight& query = weight_of(float8, "layers.0.attention.query");
  query = round_float8(to_dense(query, at::kFloat), at::kBFloat16);
  for (const Model& model : {quantized, float8})
    CHECK(test::error_of(ErrorKind::kConfig,
                         [&] {
                           run_pass("structured_pruning",
                                    "{sparsity_ratio: 0.4}", model);
                         }) ==
          "structured_pruning: layers.0.attention.query is quantized; put "
          "pruning before quantization");
}
