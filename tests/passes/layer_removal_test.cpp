#include <ATen/core/grad_mode.h>

#include "autoglm/model/checkpoint.h"
#include "autoglm/model/footprint.h"
#include "autoglm/model/forward.h"
#include "passes/pruning/removal_choice.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::run_pass;
using test::tiny_model;

namespace {

Model deep_model(const std::string& family = "glm", std::int64_t layers = 4) {
  return tiny_model(family, 1, {.layers = layers});
}

void silence(Linear& linear) {
  linear.weight =
      DenseWeight{at::zeros_like(std::get<DenseWeight>(linear.weight).value)};
}

std::string removed(const test::PassRun& run) {
  std::string out;
  for (const Json& row : run.notes.at("removed"))
    out += row["removed"].get<std::string>() + " ";
  return out;
}

// From whole forward passes, in fp64, on the windows of run_pass.
double divergence(const Model& original, const Model& changed) {
  const at::NoGradGuard no_grad;
  at::manual_seed(3);
  const at::Tensor ids =
      test::random_windows(12, 20, original.architecture.vocabulary);
  const auto logs = [&](const Model& model) {
    const at::Tensor logits = forward(model, ids).to(at::kDouble);
    return at::log_softmax(logits.slice(1, 1, ids.size(1) - 1), -1);
  };
  const at::Tensor q = logs(original), p = logs(changed);
  return (q.exp() * (q - p)).sum(-1).mean().item<double>();
}

RemovalUnits four_blocks() { return {{0}, {1}, {2}, {3}}; }

// Scores that depend on what is gone: {0, 1, 2, 3} but for these.
ScoreUnits fixed_scores(
    const std::function<double(const Model&, const RemovalUnit&)>& score) {
  return [=](const Model& model, const RemovalUnits& units) {
    std::vector<double> out;
    for (const RemovalUnit& unit : units) out.push_back(score(model, unit));
    return out;
  };
}

std::string names(const RemovalChoice& choice) {
  std::string out;
  for (const RemovalUnit& unit : choice.units) out += unit_name(unit) + " ";
  return out;
}

}  // namespace

TEST_CASE("layer_removal: by hand, what does nothing goes first") {
  Model start = deep_model();
  silence(start.blocks[2].attention.output);
  silence(start.blocks[2].mlp.down);
  silence(start.blocks[0].mlp.down);
  for (const char* importance : {"kl", "block_influence", "contiguous"}) {
    INFO(importance);
    const auto run = run_pass(
        "layer_removal",
        fmt::format("{{count: 1, importance: {}}}", importance), start);
    CHECK(removed(run) == "layers.2 ");
    CHECK(run.model.blocks.size() == 3);
    CHECK(run.model.architecture.layers() == 3);
    CHECK(divergence(start, run.model) == Approx(0).margin(1e-9));
  }
  const auto parts =
      run_pass("layer_removal", "{unit: parts, count: 3}", start);
  CHECK(removed(parts) == "layers.0.mlp layers.2.attention layers.2.mlp ");
  CHECK(divergence(start, parts.model) == Approx(0).margin(1e-9));
  CHECK(parts.model.blocks.size() == 4);
}

TEST_CASE("layer_removal: the last score is the divergence of the result") {
  for (const std::string& family : test::tiny_families())
    for (const char* unit : {"block", "parts"}) {
      INFO(family << " " << unit);
      const Model start = deep_model(family);
      const auto run = run_pass(
          "layer_removal", fmt::format("{{unit: {}, count: 2}}", unit), start);
      const double score = run.notes.at("removed")[1]["score"].get<double>();
      CHECK(divergence(start, run.model) == Approx(score).epsilon(1e-4));
      CHECK_NOTHROW(verify_model(run.model));
      const test::TemporaryFolder folder;
      write_checkpoint(run.model, folder.path());
      const Model again = read_checkpoint(folder.path());
      CHECK((again.architecture.blocks == run.model.architecture.blocks));
      CHECK(test::checksum(again) == test::checksum(run.model));
    }
}

TEST_CASE("layer_removal: what is left is scored again") {
  // Blocks 1 and 2 stand in for each other; 3 is the next cheapest.
  const Model start = deep_model();
  const auto score = fixed_scores([](const Model& now, const RemovalUnit& u) {
    const bool alone = !now.blocks[1].has_mlp() || !now.blocks[2].has_mlp();
    const std::vector<double> first = {9, 1, 2, 3}, then = {9, 8, 8, 3};
    return (alone ? then : first)[u.layer];
  });
  const RemovalChoice choice =
      greedy_removal(start, four_blocks(), {.count = 2}, score);
  CHECK(names(choice) == "layers.1 layers.3 ");
  CHECK(choice.scores["layers.2"] == Json({{"step 1", 2.0}, {"step 2", 8.0}}));
  CHECK(choice.scores["layers.1"] == Json({{"step 1", 1.0}}));
}

TEST_CASE("layer_removal: the threshold is on the next score, with penalty") {
  const Model start = deep_model();
  const auto score = fixed_scores([](const Model&, const RemovalUnit& u) {
    return std::vector<double>{1.0, 1.5, 2.5, 4.0}[u.layer];
  });
  const auto chosen = [&](const GreedyRule& rule) {
    return names(greedy_removal(start, four_blocks(), rule, score));
  };
  CHECK(chosen({.count = 4}) == "layers.0 layers.1 layers.2 ");
  CHECK(chosen({.count = 4, .threshold = 1}) == "");
  CHECK(chosen({.count = 4, .threshold = 2}) == "layers.0 layers.1 ");
  // Beside the gap at 0, block 1 counts as 3.
  CHECK(chosen({.count = 2, .neighbour_penalty = 2}) == "layers.0 layers.2 ");
  CHECK(chosen({.count = 4, .threshold = 2.7, .neighbour_penalty = 2}) ==
        "layers.0 layers.2 ");
}

TEST_CASE("layer_removal: influences and angles by hand") {
  // A stream of one direction that block 0 turns about and block 1 keeps.
  Model model = deep_model("glm", 2);
  const RemovalUnits units = {{0}, {1}};
  at::manual_seed(3);
  const at::Tensor ids = test::random_windows(3, 10);
  for (Block& block : model.blocks) {
    silence(block.attention.output);
    silence(block.mlp.down);
  }
  for (const double value : block_influence(model, ids, 2, units))
    CHECK(value == Approx(0).margin(1e-6));
  for (const double value : angular_distances(model, ids, 2, 1))
    CHECK(value == Approx(0).margin(1e-3));  // acos near 1
  // A bias turns every vector x to x + b.
  const at::Tensor bias = at::randn({32});
  model.blocks[0].attention.output.bias = bias;
  const at::Tensor x =
      at::embedding(to_dense(model.embedding, at::kFloat), ids).narrow(1, 1, 8);
  const at::Tensor cosine = at::cosine_similarity(x, x + bias, -1);
  const auto influence = block_influence(
      model, ids, 2, {{0, BlockPart::kAttention}, {0, BlockPart::kMlp}, {0}});
  const double turned = 1 - cosine.mean().item<double>();
  CHECK(influence[0] == Approx(turned).epsilon(1e-4));
  CHECK(influence[1] == Approx(0).margin(1e-6));
  CHECK(influence[2] == Approx(turned).epsilon(1e-4));
  const double angle = at::acos(cosine).mean().item<double>() / M_PI;
  const auto one = angular_distances(model, ids, 2, 1);
  CHECK(one[0] == Approx(angle).epsilon(1e-4));
  CHECK(one[1] == Approx(0).margin(1e-3));
  const auto two = angular_distances(model, ids, 2, 2);
  REQUIRE(two.size() == 1);
  CHECK(two[0] == Approx(angle).epsilon(1e-4));
}

TEST_CASE("layer_removal: a contiguous run is one of neighbours that may go") {
  const auto run = run_pass("layer_removal",
                            "{count: 2, importance: contiguous, "
                            "target_layers: [layers.0, layers.2, layers.3]}",
                            deep_model());
  CHECK(removed(run) == "layers.2 layers.3 ");
  CHECK(run.notes.at("scores").size() == 1);
}

TEST_CASE("layer_removal: random choices hang on the seed alone") {
  const auto run = run_pass("layer_removal", "{count: 3, importance: random}",
                            deep_model("glm", 6), /*data=*/false);
  CHECK(run.model.blocks.size() == 3);
  CHECK(removed(run) ==
        removed(run_pass("layer_removal", "{count: 3, importance: random}",
                         deep_model("glm", 6), false)));
  const Model start = deep_model("glm", 6);
  const RemovalUnits units = {{0}, {1}, {2}, {3}, {4}, {5}};
  CHECK(names(random_removal(start, units, 3, 1)) !=
        names(random_removal(start, units, 3, 2)));
}

TEST_CASE("layer_removal: of mixtures the dense first blocks stay") {
  const auto run =
      run_pass("layer_removal", "{count: 2}", deep_model("glm4_moe"));
  CHECK(run.model.architecture.blocks[0].experts == 0);
  CHECK(run.model.architecture.blocks[1].experts == 4);
  CHECK_FALSE(run.notes.at("scores").contains("layers.0"));
  // But they may be asked for.
  CHECK(
      removed(run_pass("layer_removal", "{count: 1, target_layers: [layers.0]}",
                       deep_model("glm4_moe"))) == "layers.0 ");
}

TEST_CASE("layer_removal: a plan removes as many, or none up to a threshold") {
  const auto planned = [](const std::string& params) {
    return test::planned("layer_removal", params, deep_model());
  };
  CHECK(planned("{count: 3}").blocks.size() == 1);
  CHECK(planned("{count: 0}").blocks.size() == 4);
  CHECK(planned("{sparsity_ratio: 0.5}").blocks.size() == 2);
  CHECK(planned("{sparsity_ratio: 0.01}").blocks.size() == 3);
  CHECK(planned("{sparsity_ratio: 0}").blocks.size() == 4);
  CHECK(planned("{threshold: 0.1}").blocks.size() == 4);
  const auto heads = [](const Model& model) {
    int count = 0;
    for (const BlockWidths& w : model.architecture.blocks)
      count += w.has_attention();
    return count;
  };
  CHECK(heads(planned("{unit: attention, count: 3}")) == 1);
  CHECK(heads(planned("{unit: mlp, count: 3}")) == 4);
}

TEST_CASE("layer_removal: what cannot be done is said") {
  const Model start = deep_model();
  const auto refused = [&](const std::string& params, bool data = true) {
    return test::error_of(ErrorKind::kConfig, [&] {
      run_pass("layer_removal", params, start, data);
    });
  };
  CHECK(refused("{count: 4}") ==
        "layer_removal: 4 of 4 blocks cannot go; 3 can");
  CHECK(refused("{count: 2, target_layers: [layers.1]}") ==
        "layer_removal: 2 of 1 blocks cannot go; 1 can");
  CHECK(refused("{unit: mlp, count: 4}") ==
        "layer_removal: 4 of 4 mlp parts cannot go; 3 can");
  CHECK(refused("{unit: parts, count: 7}") ==
        "layer_removal: 7 of 8 parts cannot go; 6 can");
  CHECK(refused("{threshold: 1, importance: random}") ==
        "layer_removal: a threshold is for the importance kl and "
        "block_influence, not for random");
  CHECK(refused("{unit: mlp, importance: contiguous}") ==
        "layer_removal: the importance contiguous is for the unit block, not "
        "for mlp");
  CHECK(refused("{count: 2, importance: contiguous, "
                "target_layers: [layers.0, layers.2]}") ==
        "layer_removal: there is no run of 2 neighbouring blocks that may go");
  CHECK(refused("{}", /*data=*/false) ==
        "layer_removal: the importance kl needs calibration text");
}

TEST_CASE("layer_removal: all passes run on a model with gaps") {
  for (const char* family : {"glm4", "glm4_moe", "glm_moe_dsa", "chatglm-6b"}) {
    Model start = deep_model(family);
    start.blocks[0] = without_part(start.blocks[0], BlockPart::kMlp);
    start.blocks[1] = without_part(start.blocks[1], BlockPart::kAttention);
    start.blocks[3] = without_part(start.blocks[3], BlockPart::kAttention);
    start.blocks[3] = without_part(start.blocks[3], BlockPart::kMlp);
    update_widths(start);
    for (const auto& [type, params] :
         std::map<std::string, std::string>{{"structured_pruning", "{}"},
                                            {"layer_removal", "{}"},
                                            {"quantization", "{bits: 4}"},
                                            {"distillation", "{steps: 2}"}}) {
      INFO(family << " " << type);
      const Model result = run_pass(type, params, start).model;
      CHECK_NOTHROW(verify_model(result));
      // A plan of pruning asks the attention for its device.
      if (type == "structured_pruning") continue;
      Model shapes = test::planned(type, params, start);
      update_widths(shapes);
      if (type != "layer_removal")
        CHECK(footprint(shapes).total().bytes ==
              footprint(result).total().bytes);
    }
  }
}
