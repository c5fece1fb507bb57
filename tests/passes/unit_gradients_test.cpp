#include "passes/pruning/unit_gradients.h"

#include "autoglm/model/forward.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

constexpr std::int64_t kPrefix = 2;

// The summed loss over the text of one window [1, T].
double loss(const Model& model, const at::Tensor& ids) {
  const at::Tensor logits = forward(model, ids).to(at::kDouble);
  const at::Tensor log_p = at::log_softmax(logits, -1);
  double sum = 0;
  for (std::int64_t t = kPrefix; t < ids.size(1); ++t)
    sum -= log_p[0][t - 1][ids[0][t].item<std::int64_t>()].item<double>();
  return sum;
}

// The model with the columns of a reader's unit times 1 + step.
Model scaled(Model model, Linear& (*reader)(Block&), std::int64_t unit,
             std::int64_t size, double step) {
  Linear& linear = reader(model.blocks[0]);
  at::Tensor weight = to_dense(linear.weight, at::kFloat).clone();
  weight.narrow(1, unit * size, size).mul_(1 + step);
  linear.weight = DenseWeight{weight};
  return model;
}

Linear& down(Block& block) { return block.mlp.down; }
Linear& output(Block& block) { return block.attention.output; }

}  // namespace

TEST_CASE("taylor: the derivative of the loss by a factor on the unit") {
  const Model model = to_compute(test::tiny_model(), at::kCPU, at::kFloat);
  at::manual_seed(4);
  const at::Tensor ids = test::random_windows(1, 14);
  const auto scores =
      unit_gradients(model, ids, kPrefix, GradientScore::kTaylor, 1,
                     [](const std::string&) { return true; });
  REQUIRE(scores.size() == 2);
  constexpr double kStep = 1e-2;
  const auto check = [&](Linear& (*reader)(Block&), const std::string& name,
                         std::int64_t size) {
    for (const std::int64_t unit : {0, 2, 3}) {
      INFO(name << " " << unit);
      const double expected =
          (loss(scaled(model, reader, unit, size, kStep), ids) -
           loss(scaled(model, reader, unit, size, -kStep), ids)) /
          (2 * kStep);
      CHECK(scores[0].at(name)[unit].item<double>() ==
            Approx(std::abs(expected)).epsilon(0.02).margin(2e-4));
    }
  };
  check(down, "mlp.down", 1);
  check(output, "attention.output", model.architecture.value_size);
}

TEST_CASE("taylor, fisher: means over windows, the same again") {
  const Model model = test::tiny_model("glm4_moe");
  at::manual_seed(5);
  const at::Tensor ids = test::random_windows(3, 14);
  const auto all = [](const std::string&) { return true; };
  for (const GradientScore score :
       {GradientScore::kTaylor, GradientScore::kFisher}) {
    const auto scores = unit_gradients(model, ids, kPrefix, score, 9, all);
    const auto again = unit_gradients(model, ids, kPrefix, score, 9, all);
    CHECK(scores[1].contains("mlp.shared.down"));
    for (std::size_t i = 0; i < scores.size(); ++i)
      for (const auto& [name, values] : scores[i]) {
        INFO(i << " " << name);
        CHECK(at::equal(values, again[i].at(name)));
        CHECK((values >= 0).all().item<bool>());
      }
    if (score == GradientScore::kFisher) continue;
    at::Tensor sum;
    for (const at::Tensor& one : ids.split(1)) {
      const at::Tensor own =
          unit_gradients(model, one, kPrefix, score, 9, all)[0].at("mlp.down");
      sum = sum.defined() ? sum + own : own;
    }
    CHECK(at::allclose(sum / 3, scores[0].at("mlp.down"), 1e-3, 1e-6));
  }
}

TEST_CASE("taylor: only what is wanted") {
  at::manual_seed(6);
  const auto scores = unit_gradients(
      test::tiny_model(), test::random_windows(1, 10), kPrefix,
      GradientScore::kTaylor, 1,
      [](const std::string& name) { return name == "layers.1.mlp.down"; });
  CHECK(scores[0].empty());
  CHECK(scores[1].size() == 1);
}

TEST_CASE("taylor: of an expert as a whole, by a factor on all that it adds") {
  Model model = to_compute(test::tiny_model("glm4_moe"), at::kCPU, at::kFloat);
  // No token is sent to the last one.
  model.blocks[1].mixture.correction_bias =
      at::tensor({0.0f, 0.0f, 0.0f, -9.0f});
  at::manual_seed(7);
  const at::Tensor ids = test::random_windows(1, 14);
  const auto scores =
      unit_gradients(model, ids, kPrefix, GradientScore::kTaylor, 1,
                     [](const std::string&) { return true; });
  const auto with = [&](std::size_t expert, double factor) {
    Model changed = model;
    Linear& own = changed.blocks[1].mixture.experts[expert].down;
    own.weight = DenseWeight{std::get<DenseWeight>(own.weight).value * factor};
    return loss(changed, ids);
  };
  for (const std::size_t expert : {0, 1, 2}) {
    INFO(expert);
    const double expected = (with(expert, 1.01) - with(expert, 0.99)) / 0.02;
    const std::string name = fmt::format("mlp.experts.{}", expert);
    CHECK(scores[1].at(name).item<double>() ==
          Approx(std::abs(expected)).epsilon(0.02).margin(2e-4));
  }
  CHECK_FALSE(scores[1].contains("mlp.experts.3"));
}
