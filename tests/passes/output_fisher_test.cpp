#include "passes/output_fisher.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/block_parts.h"
#include "passes/backward_walk.h"
#include "passes/head_divergence.h"
#include "passes/quantization/block_loss.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::random_windows;
using autoglm::test::tiny_model;

namespace {

constexpr std::int64_t kPrefix = 2;

FisherOptions all_matrices(std::int64_t batch) {
  return {.batch = batch, .seed = 5, .wanted = [](const std::string&) {
            return true;
          }};
}

at::Tensor windows_for(const Model& model) {
  at::manual_seed(4);
  return random_windows(12, 20, model.architecture.vocabulary);
}

double divergence(const Model& original, const Model& changed,
                  const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  return head_divergence(
      original, text_states(original, ids, kPrefix, at::kFloat), changed,
      text_states(changed, ids, kPrefix, at::kFloat));
}

}  // namespace

TEST_CASE("backward walk: the gradients of autograd through the whole model") {
  Model model = tiny_model("glm4");
  const at::Tensor ids = windows_for(model).narrow(0, 0, 2);
  at::Tensor& gain = model.blocks[0].middle_norm.gain;
  gain = gain.to(at::kFloat).clone().requires_grad_(true);
  const at::Tensor direction =
      at::randn({2, ids.size(1), model.architecture.hidden});
  {
    AttentionContext context = attention_context(model, ids);
    at::Tensor x = embed(model, model.embedding, ids, context, at::kFloat);
    for (std::size_t i = 0; i < model.blocks.size(); ++i)
      x = block_forward(model, model.blocks[i], static_cast<std::int64_t>(i), x,
                        context);
    (x * direction).sum().backward();
  }
  const at::Tensor expected = gain.grad().clone();
  gain.mutable_grad().zero_();
  const at::NoGradGuard no_grad;
  BackwardWalk walk(model, ids, [&](std::size_t i) { return model.blocks[i]; });
  std::vector<std::size_t> order;
  walk.backward(direction,
                [&](std::size_t i, const at::Tensor& input,
                    AttentionContext& context, const at::Tensor& gradient) {
                  const at::AutoGradMode with_gradients(true);
                  order.push_back(i);
                  block_forward(model, model.blocks[i],
                                static_cast<std::int64_t>(i), input, context)
                      .backward(gradient);
                });
  CHECK(order.front() == model.blocks.size() - 1);
  CHECK(order.back() == 0);
  CHECK(at::allclose(gain.grad(), expected, 1e-4, 1e-5));
}

TEST_CASE("fisher: errors along a costly direction cost the predictions more") {
  const Model model = tiny_model("glm");
  const at::Tensor ids = windows_for(model);
  const auto fisher = output_fisher(model, ids, kPrefix, all_matrices(4));
  REQUIRE(fisher.size() == model.blocks.size());
  for (const std::string name :
       {"attention.output", "mlp.down", "mlp.gate_up", "attention.value"}) {
    INFO(name);
    const OutputMetric& metric = fisher[0].outputs.at(name);
    REQUIRE(metric.size() == 1);
    const auto [values, vectors] = at::linalg_eigh(metric[0]);
    const auto cost_along = [&](std::int64_t direction) {
      Model changed = model;
      Linear& linear = *find_linear(changed.blocks[0], name);
      const at::Tensor value = to_dense(linear.weight, at::kFloat);
      at::manual_seed(9);
      const at::Tensor change =
          at::outer(vectors.select(1, direction), at::randn({value.size(1)}));
      linear.weight =
          DenseWeight{value + change * (0.05 * value.norm() / change.norm())};
      return divergence(model, changed, ids);
    };
    CHECK(cost_along(values.size(0) - 1) > 4 * cost_along(0));
  }
}

TEST_CASE(
    "fisher: metrics are normed, weights too, batches make no difference") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = tiny_model(family);
    const at::Tensor ids = windows_for(model);
    const auto one = output_fisher(model, ids, kPrefix, all_matrices(12));
    const auto many = output_fisher(model, ids, kPrefix, all_matrices(5));
    for (std::size_t i = 0; i < one.size(); ++i) {
      for (const auto& [name, metric] : one[i].outputs) {
        INFO(name);
        const Linear& linear =
            *find_linear(const_cast<Block&>(model.blocks[i]), name);
        CHECK(metric[0].size(0) == rows(linear.weight));
        CHECK(metric[0].diagonal().mean().item<double>() ==
              Approx(1.03).epsilon(1e-3));
        CHECK(at::allclose(metric[0], many[i].outputs.at(name)[0], 1e-2, 1e-3));
      }
      for (const auto& [site, weights] : one[i].tokens) {
        CHECK(weights.size(0) == 12);
        CHECK(weights.size(1) == ids.size(1));
        CHECK(weights.mean().item<double>() == Approx(1).epsilon(1e-4));
      }
      // Nothing is predicted after the last token.
      CHECK(
          one[i].block_tokens.select(1, ids.size(1) - 1).sum().item<float>() ==
          0.F);
    }
  }
}

TEST_CASE("fisher: only what is wanted is computed") {
  const Model model = tiny_model("glm");
  FisherOptions options = all_matrices(4);
  options.wanted = [](const std::string& name) {
    return name == "layers.1.mlp.down";
  };
  const auto fisher =
      output_fisher(model, windows_for(model), kPrefix, options);
  CHECK(fisher[0].outputs.empty());
  CHECK(fisher[0].block_output.empty());
  CHECK(fisher[1].outputs.size() == 1);
  CHECK(fisher[1].tokens.size() == 1);
  int ticks = 0;
  options.wanted = [](const std::string&) { return false; };
  output_fisher(model, windows_for(model), kPrefix, options, [&] { ++ticks; });
  CHECK(ticks == 0);
}

TEST_CASE("block loss: nothing for the same block, the metric's cost else") {
  Model model = tiny_model("glm");
  const at::Tensor ids = windows_for(model);
  const auto fisher = output_fisher(model, ids, kPrefix, all_matrices(4));
  walk_blocks(model, model.embedding, ids, 4, [&](const BlockVisit& visit) {
    const auto layer = static_cast<std::size_t>(visit.layer);
    for (const BlockFisher& metric : {fisher[layer], BlockFisher()}) {
      const BlockLoss loss(model, visit, metric);
      CHECK(loss.mean(visit.original, 0, 3) < 1e-10);
      Block changed = visit.original;
      changed.mlp.down.weight =
          DenseWeight{to_dense(changed.mlp.down.weight, at::kFloat) * 1.1};
      CHECK(loss.mean(changed, 0, 3) > 1e-6);
    }
    // By hand, one batch: the block without its change of the stream costs as
    // much as that change, 1, on average over the batches.
    Block silent = visit.original;
    for (Linear* linear : {&silent.attention.output, &silent.mlp.down}) {
      linear->weight =
          DenseWeight{at::zeros_like(to_dense(linear->weight, at::kFloat))};
      if (linear->bias.defined()) linear->bias = at::zeros_like(linear->bias);
    }
    CHECK(BlockLoss(model, visit, fisher[layer]).mean(silent, 0, 3) ==
          Approx(1).epsilon(1e-3));
    return visit.original;
  });
}
