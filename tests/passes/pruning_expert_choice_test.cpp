// structured_pruning without whole routed experts: how many go, and which.
#include "autoglm/core/log.h"
#include "autoglm/model/forward.h"
#include "autoglm/model/mlp.h"
#include "passes/pruning/experts.h"
#include "passes/pruning/rerouting.h"
#include "tests/passes/pass_runs.h"
#include "tests/passes/pruning_models.h"
#include "tests/support/catch.h"
#include "tests/support/relative.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::preferring;
using test::run_pass;
using test::tiny_mixture;

namespace {

std::vector<std::int64_t> dropped(const std::string& params, const Model& start,
                                  bool data = true) {
  return run_pass("structured_pruning", params, start, data)
      .notes.at("layers")[1]["dropped_experts"]
      .get<std::vector<std::int64_t>>();
}

const std::string kAlone = "sparsity_ratio: 0, repair: none";

}  // namespace

TEST_CASE("experts: by hand, how many stay") {
  const BlockWidths twelve = {4, 2, 24, 12, 24};
  const RouterRule three = {.per_token = 3};
  CHECK(experts_left(twelve, three, 0) == 12);
  CHECK(experts_left(twelve, three, 0.25) == 9);
  CHECK(experts_left(twelve, three, 0.04) == 12);  // 11.52
  CHECK(experts_left(twelve, three, 0.9) == 3);    // a token needs them
  // Four from two of three groups: two of each are enough, and must be.
  const RouterRule groups = {.per_token = 4, .groups = 3, .kept_groups = 2};
  CHECK(experts_left(twelve, groups, 0.25) == 9);
  CHECK(experts_left(twelve, groups, 0.9) == 6);
  const RouterRule one = {.per_token = 1, .groups = 3, .kept_groups = 1};
  CHECK(experts_left(twelve, one, 0.9) == 6);
}

TEST_CASE("experts: by hand, the best of every group stay") {
  const at::Tensor scores = at::tensor({5., 4., 3., 2., 1., 9.}, at::kFloat);
  CHECK(at::equal(best_experts(scores, 4, 1),
                  at::tensor({0, 1, 2, 5}, at::kLong)));
  CHECK(at::equal(best_experts(scores, 4, 2),
                  at::tensor({0, 1, 3, 5}, at::kLong)));
  CHECK(at::equal(best_experts(at::ones({4}), 2, 1),
                  at::tensor({0, 1}, at::kLong)));
}

TEST_CASE("structured_pruning: an expert that no token is sent to goes first") {
  const Model start = preferring(tiny_mixture(8, 2), {1, 1, 1, 1, 1, -9, 1, 1});
  for (const char* importance :
       {"activation", "fluctuation", "taylor", "fisher", "obs"}) {
    INFO(importance);
    CHECK(dropped(fmt::format("{{{}, experts: 0.125, importance: {}}}", kAlone,
                              importance),
                  start) == std::vector<std::int64_t>{5});
  }
}

TEST_CASE(
    "structured_pruning: by hand, the lightest expert goes by l1 and l2") {
  Model start = tiny_mixture(4, 2);
  Mlp& light = start.blocks[1].mixture.experts[2];
  for (Linear* part : {&light.gate, &light.up, &light.down})
    part->weight = DenseWeight{std::get<DenseWeight>(part->weight).value * 0.5};
  for (const char* importance : {"l1", "l2", "norm_gain"})
    for (const bool data : {true, false}) {
      INFO(importance);
      CHECK(dropped(fmt::format("{{{}, experts: 0.25, importance: {}}}", kAlone,
                                importance),
                    start, data) == std::vector<std::int64_t>{2});
    }
  // With no data the default is l1.
  set_log_level(LogLevel::kOff);
  CHECK(dropped("{sparsity_ratio: 0, experts: 0.25}", start, false) ==
        std::vector<std::int64_t>{2});
}

TEST_CASE("structured_pruning: an expert with a double goes first by obs") {
  Model start = to_compute(tiny_mixture(4, 1), at::kCPU, at::kFloat);
  Mixture& mixture = start.blocks[1].mixture;
  mixture.correction_bias = at::zeros({4});
  // Expert 3 does what expert 1 does, and is the next best where that is gone.
  mixture.experts[3] = mixture.experts[1];
  mixture.router = mixture.router.clone();
  mixture.router[3] = mixture.router[1] * 1.0001;
  const auto run = run_pass(
      "structured_pruning",
      fmt::format("{{{}, experts: 0.25, importance: obs}}", kAlone), start);
  const auto gone = run.notes.at("layers")[1]["dropped_experts"];
  CHECK(gone.size() == 1);
  CHECK((gone[0] == 1 || gone[0] == 3));
  const at::Tensor ids = test::random_windows(3, 12);
  CHECK(test::relative_peak(forward(run.model, ids), forward(start, ids)) <
        1e-6);
}

TEST_CASE("rerouting_scores: as removing one expert after the other by hand") {
  for (const std::int64_t groups : {1, 2}) {
    Model model = to_compute(tiny_mixture(6, 2), at::kCPU, at::kFloat);
    model.architecture.router.groups = groups;
    const Architecture& a = model.architecture;
    const Mixture& mixture = model.blocks[1].mixture;
    at::manual_seed(4);
    const at::Tensor x = at::randn({40, 32});
    const at::Tensor wanted = mixture_forward(a, mixture, x);
    // The error of the whole output without each of those left, with models
    // that were cut.
    std::vector<std::int64_t> order, left = {0, 1, 2, 3, 4, 5};
    for (int step = 0; step < 2; ++step) {
      double best = 1e30;
      std::size_t worst = 0;
      for (std::size_t i = 0; i < left.size(); ++i) {
        // Of two groups of three either loses one at first, then the other.
        if (groups == 2 && step == 1 && left[i] / 3 == order[0] / 3) continue;
        Mixture cut = mixture;
        cut.correction_bias = mixture.correction_bias.clone();
        for (const std::int64_t gone : order) cut.correction_bias[gone] = -1e9;
        cut.correction_bias[left[i]] = -1e9;
        const double error =
            (mixture_forward(a, cut, x) - wanted).square().sum().item<double>();
        if (error < best) {
          best = error;
          worst = i;
        }
      }
      order.push_back(left[worst]);
      left.erase(left.begin() + static_cast<std::ptrdiff_t>(worst));
    }
    const at::Tensor scores = rerouting_scores(a, mixture, x, 4);
    const at::Tensor rising = scores.argsort();
    CHECK(rising[0].item<std::int64_t>() == order[0]);
    CHECK(rising[1].item<std::int64_t>() == order[1]);
  }
}

TEST_CASE("structured_pruning: experts are asked of a model without any") {
  const auto message = [](const Model& model, const std::string& params) {
    return test::error_of(ErrorKind::kConfig, [&] {
      run_pass("structured_pruning", params, model);
    });
  };
  const std::string expected =
      "structured_pruning: experts: no selected block has routed experts";
  CHECK(message(test::tiny_model("glm"), "{experts: 0.5}") == expected);
  CHECK(message(tiny_mixture(4, 2),
                "{experts: 0.5, target_layers: [layers.0.*]}") == expected);
  CHECK(message(tiny_mixture(4, 2),
                "{experts: 0.5, target_layers: ['*attention*']}") == expected);
}
