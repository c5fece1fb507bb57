#include "autoglm/model/mlp.h"

#include <ATen/core/grad_mode.h>

#include <cmath>

#include "autoglm/model/forward.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// A router that gives the input [1] these logits.
Mixture router_of(const std::vector<float>& logits,
                  const std::vector<float>& bias = {}) {
  const auto count = static_cast<std::int64_t>(logits.size());
  Mixture out;
  out.router = at::tensor(logits).view({count, 1});
  out.correction_bias = bias.empty() ? at::zeros({count}) : at::tensor(bias);
  return out;
}

// Expert -> weight of the one token.
std::map<std::int64_t, double> routed(const RouterRule& rule,
                                      const Mixture& mixture) {
  const Routing routing = route(rule, mixture, at::ones({1, 1}));
  std::map<std::int64_t, double> out;
  for (std::int64_t k = 0; k < rule.per_token; ++k)
    out[routing.experts[0][k].item<std::int64_t>()] =
        routing.weights[0][k].item<double>();
  return out;
}

Linear dense(const at::Tensor& weight, const at::Tensor& bias = {}) {
  return {DenseWeight{weight}, bias};
}

Architecture architecture_of(const std::string& family) {
  return test::tiny_model(family).architecture;
}

}  // namespace

TEST_CASE("route: the best experts share the scale, by hand") {
  const RouterRule rule = {.per_token = 2, .scale = 2.5};
  const auto weights = routed(rule, router_of({2, -1, 1, 0}));
  REQUIRE(weights.size() == 2);
  const double sum = sigmoid(2) + sigmoid(1);
  CHECK(weights.at(0) == Approx(2.5 * sigmoid(2) / sum));
  CHECK(weights.at(2) == Approx(2.5 * sigmoid(1) / sum));
}

TEST_CASE("route: the correction bias moves the choice, not the weights") {
  const RouterRule rule = {.per_token = 2};
  const auto weights = routed(rule, router_of({2, -1, 1, 0}, {0, 3, 0, 0}));
  REQUIRE(weights.size() == 2);
  const double sum = sigmoid(2) + sigmoid(-1);
  CHECK(weights.at(0) == Approx(sigmoid(2) / sum));
  CHECK(weights.at(1) == Approx(sigmoid(-1) / sum));
  // The same for every expert changes nothing.
  const auto same = routed(rule, router_of({2, -1, 1, 0}, {9, 9, 9, 9}));
  CHECK(same.count(0) + same.count(2) == 2);
}

TEST_CASE("route: without normalisation the scores are the weights") {
  const RouterRule rule = {.per_token = 1, .normalize = false, .scale = 3};
  CHECK(routed(rule, router_of({2, -1})).at(0) == Approx(3 * sigmoid(2)));
  // Scores that are 0 do not divide by 0.
  const RouterRule normal = {.per_token = 2};
  for (const auto& [expert, weight] : routed(normal, router_of({-200, -200})))
    CHECK(std::isfinite(weight));
}

TEST_CASE("route: only the experts of the best groups are chosen from") {
  // Groups {0, 1}, {2, 3}, {4, 5}; a group is as good as its two best.
  const Mixture mixture = router_of({4, -3, 1.1f, 1, 0, -0.1f});
  RouterRule rule = {.per_token = 2, .groups = 3, .kept_groups = 1};
  auto weights = routed(rule, mixture);
  // Group 1 has 0.75 + 0.73, group 0 has 0.98 + 0.05, though expert 0 is best.
  CHECK(weights.count(2) + weights.count(3) == 2);
  CHECK(weights.at(2) == Approx(sigmoid(1.1) / (sigmoid(1.1) + sigmoid(1))));
  // Group 0 is the second, before group 2 with 0.50 + 0.48.
  rule.kept_groups = 2;
  weights = routed(rule, mixture);
  CHECK(weights.count(0) + weights.count(2) == 2);
  // The bias counts in the choice of groups too.
  rule.kept_groups = 1;
  weights = routed(rule, router_of({4, -3, 1, 1, 0, 0}, {0, 0, 0, 0, 2, 2}));
  CHECK(weights.count(4) + weights.count(5) == 2);
}

TEST_CASE("experts: every token is at its experts with its weights") {
  Routing routing;
  routing.experts = at::tensor({2, 0, 0, 1, 2, 1}, at::kLong).view({3, 2});
  routing.weights = at::tensor({.1f, .2f, .3f, .4f, .5f, .6f}).view({3, 2});
  const auto by_expert = tokens_by_expert(routing, 4);
  REQUIRE(by_expert.size() == 4);
  CHECK(by_expert[0].tokens.equal(at::tensor({0, 1}, at::kLong)));
  CHECK(by_expert[0].weights.equal(at::tensor({.2f, .3f})));
  CHECK(by_expert[1].tokens.equal(at::tensor({1, 2}, at::kLong)));
  CHECK(by_expert[1].weights.equal(at::tensor({.4f, .6f})));
  CHECK(by_expert[2].tokens.equal(at::tensor({0, 2}, at::kLong)));
  CHECK(by_expert[2].weights.equal(at::tensor({.1f, .5f})));
  CHECK(by_expert[3].tokens.size(0) == 0);
}

TEST_CASE("mixture: equals all experts on all tokens, weighted") {
  const at::NoGradGuard no_grad;
  for (const char* family : {"glm4_moe", "glm4_moe_lite", "glm_moe_dsa"}) {
    INFO(family);
    Model model = to_compute(test::tiny_model(family), at::kCPU, at::kFloat);
    const Architecture& a = model.architecture;
    Mixture mixture = model.blocks[1].mixture;
    const at::Tensor x = at::randn({3, 5, a.hidden});
    const at::Tensor flat = x.view({15, a.hidden});
    const auto run = [&](const Mlp& mlp) {
      return apply_linear(mlp_values(a, mlp, flat), mlp.down.weight,
                          mlp.down.bias);
    };
    const auto all = [&](bool shared) {
      const at::Tensor scores = at::sigmoid(at::mm(flat, mixture.router.t()));
      const at::Tensor kept = std::get<1>(
          (scores + mixture.correction_bias).topk(a.router.per_token, -1));
      at::Tensor weights =
          at::zeros_like(scores).scatter(1, kept, scores.gather(1, kept));
      weights = weights / weights.sum(1, true) * a.router.scale;
      at::Tensor out = shared ? run(mixture.shared) : at::zeros_like(flat);
      for (std::size_t e = 0; e < mixture.experts.size(); ++e)
        out = out +
              run(mixture.experts[e]) *
                  weights.select(1, static_cast<std::int64_t>(e)).unsqueeze(1);
      return out.view(x.sizes());
    };
    const at::Tensor whole = mixture_forward(a, mixture, x);
    CHECK(at::allclose(whole, all(true), 1e-4, 1e-4));
    // A token's result does not depend on the others.
    CHECK(at::allclose(mixture_forward(a, mixture, x.narrow(1, 2, 1)),
                       whole.narrow(1, 2, 1), 1e-5, 1e-5));
    mixture.shared = {};
    CHECK(at::allclose(mixture_forward(a, mixture, x), all(false), 1e-4, 1e-4));
  }
}

TEST_CASE("mixture: gradients reach what a token used, and the router") {
  Model model = to_compute(test::tiny_model("glm4_moe"), at::kCPU, at::kFloat);
  const Architecture& a = model.architecture;
  Mixture& mixture = model.blocks[1].mixture;
  // Expert 3 is never chosen.
  mixture.correction_bias = at::tensor({0.f, 0.f, 0.f, -9.f});
  std::vector<at::Tensor> downs;
  for (Mlp& expert : mixture.experts) {
    downs.push_back(std::get<DenseWeight>(expert.down.weight)
                        .value.clone()
                        .requires_grad_(true));
    expert.down.weight = DenseWeight{downs.back()};
  }
  mixture.router = mixture.router.clone().requires_grad_(true);
  const at::Tensor x = at::randn({40, a.hidden});
  const auto loss = [&] {
    return mixture_forward(a, mixture, x).square().sum();
  };
  loss().backward();
  for (std::size_t e = 0; e < 3; ++e)
    CHECK(downs[e].grad().abs().max().item<double>() > 0);
  CHECK_FALSE(downs[3].grad().defined());
  // Against a difference along the gradient itself.
  const at::Tensor direction =
      mixture.router.grad() / mixture.router.grad().norm();
  const double slope = mixture.router.grad().norm().item<double>();
  const at::Tensor start = mixture.router.detach();
  const auto at_step = [&](double step) {
    const at::NoGradGuard no_grad;
    mixture.router = start + direction * step;
    return loss().item<double>();
  };
  CHECK((at_step(1e-3) - at_step(-1e-3)) / 2e-3 == Approx(slope).epsilon(0.03));
}

TEST_CASE("mlp: the two forms of GELU, by hand") {
  const at::NoGradGuard no_grad;
  Mlp mlp;
  mlp.up = dense(at::ones({1, 1}));
  mlp.down = dense(at::ones({1, 1}));
  const at::Tensor x =
      at::tensor({-1.0, 0.0, 1.0, 2.0}, at::kDouble).view({4, 1});
  const auto check = [&](const char* family,
                         const std::vector<double>& expected) {
    CHECK(at::allclose(mlp_values(architecture_of(family), mlp, x).flatten(),
                       at::tensor(expected, at::kDouble), 0, 1e-9));
  };
  // x Phi(x), and the tanh formula; they differ in the fourth digit.
  check("glm-2021", {-0.158655253931, 0, 0.841344746069, 1.954499736104});
  check("chatglm-6b", {-0.158808009496, 0, 0.841191990504, 1.954597694087});
}

TEST_CASE("mlp: fused and separate gates are the same") {
  const at::NoGradGuard no_grad;
  const at::Tensor gate = at::randn({6, 4}), up = at::randn({6, 4});
  const at::Tensor x = at::randn({3, 4});
  Mlp fused, apart;
  fused.gate_up = dense(at::cat({gate, up}));
  fused.down = apart.down = dense(at::randn({4, 6}));
  apart.gate = dense(gate);
  apart.up = dense(up);
  const Architecture a = architecture_of("glm");
  CHECK(at::allclose(mlp_values(a, fused, x), mlp_values(a, apart, x), 1e-6,
                     1e-6));
  // silu(0) = 0 and silu(1) * 2 = 2 sigmoid(1).
  Mlp small;
  small.gate_up = dense(at::tensor({1.f, 2.f}).view({2, 1}));
  small.down = dense(at::ones({1, 1}));
  const at::Tensor out =
      mlp_values(a, small, at::tensor({0.f, 1.f}).view({2, 1}));
  CHECK(out[0].item<double>() == 0);
  CHECK(out[1].item<double>() == Approx(2 * sigmoid(1)));
}
