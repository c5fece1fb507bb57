#include "passes/quantization/sensitivity.h"

#include <cmath>

#include "autoglm/model/forward.h"
#include "tests/passes/row_rounding.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using test::rounds_rows_of;

namespace {

constexpr std::int64_t kPrefix = 2;

// 11 windows, so that batches are not all full.
at::Tensor windows() {
  at::manual_seed(9);
  return test::random_windows(11, 20);
}

std::vector<FusedUnit> units_of(const Model& model,
                                const std::vector<int>& bits) {
  Widths widths;
  for (const NamedLinear& linear : named_linears(model))
    widths[linear.name] = bits;
  return fused_units(model, widths);
}

// From whole forward passes, in fp64.
double reference(const Model& original, const Model& changed,
                 const at::Tensor& ids) {
  const auto logs = [&](const Model& model) {
    const at::Tensor logits = forward(model, ids).to(at::kDouble);
    return at::log_softmax(logits.slice(1, kPrefix - 1, ids.size(1) - 1), -1);
  };
  const at::Tensor q = logs(original), p = logs(changed);
  return (q.exp() * (q - p)).sum(-1).mean().item<double>();
}

}  // namespace

TEST_CASE("sensitivity: a divergence by hand") {
  // A head of zeros gives every token 1/64. A bias of ln 3 on one of them makes
  // it 3/66 and the others 1/66: KL = ln(66/64) - ln(3)/64.
  Model original = test::tiny_model();
  original.head = Linear{DenseWeight{at::zeros({64, 32})}, at::zeros({64})};
  Model changed = original;
  at::Tensor bias = at::zeros({64});
  bias[5] = std::log(3.0);
  changed.head->bias = bias;
  // fp32: logarithms near -4 are known to 5e-7.
  const double expected = std::log(66.0 / 64.0) - std::log(3.0) / 64.0;
  CHECK(DivergenceProbe(original, windows(), kPrefix).with_model(changed) ==
        Approx(expected).epsilon(1e-4));
  CHECK(DivergenceProbe(original, windows(), kPrefix).with_model(original) ==
        0);
}

TEST_CASE("sensitivity: a trial from its block on is a whole forward pass") {
  for (const std::string& family : test::tiny_families()) {
    const Model model = test::tiny_model(family);
    const at::Tensor ids = windows();
    const auto units = units_of(model, {2, 4});
    const auto quantize = rounds_rows_of(model);
    const auto found =
        measure_sensitivity(model, ids, kPrefix, units, quantize);
    REQUIRE(found.size() == units.size());
    for (std::size_t u = 0; u < units.size(); ++u)
      for (std::size_t i = 0; i < 2; ++i) {
        INFO(family << " " << units[u].name << ", width " << i);
        Model changed = model;
        for (const std::string& name : units[u].matrices)
          weight_of(changed, name) = quantize(name, units[u].widths[i]);
        const double expected = reference(model, changed, ids);
        CHECK(expected > 1e-6);
        CHECK(found[u][i] == Approx(expected).epsilon(1e-3));
        CHECK(DivergenceProbe(model, ids, kPrefix).with_model(changed) ==
              Approx(expected).epsilon(1e-3));
      }
  }
}

TEST_CASE("sensitivity: eight bits do less damage than two everywhere") {
  const Model model = test::tiny_model("glm4_moe");
  const auto found =
      measure_sensitivity(model, windows(), kPrefix, units_of(model, {2, 8}),
                          rounds_rows_of(model));
  for (const auto& damage : found) {
    CHECK(damage[1] < damage[0] / 10);
    CHECK(damage[1] >= 0);
  }
}

TEST_CASE("sensitivity: small pieces of logits give the same") {
  const Model model = test::tiny_model();
  const auto units = units_of(model, {3, 5});
  const auto quantize = rounds_rows_of(model);
  const auto whole =
      measure_sensitivity(model, windows(), kPrefix, units, quantize);
  // Seven positions at once, nothing kept; and one at once, all kept.
  for (const LogitLimits& limits :
       {LogitLimits{7 * 64 + 5, 0}, LogitLimits{1, 1 << 20}}) {
    const auto pieces =
        measure_sensitivity(model, windows(), kPrefix, units, quantize, limits);
    for (std::size_t u = 0; u < units.size(); ++u)
      for (std::size_t i = 0; i < 2; ++i)
        CHECK(pieces[u][i] == Approx(whole[u][i]).epsilon(1e-4));
  }
}

TEST_CASE("sensitivity: what changes nothing does no damage") {
  const Model model = test::tiny_model("glm_moe_dsa");
  const auto found = measure_sensitivity(
      model, windows(), kPrefix, units_of(model, {2, 4}),
      [&](const std::string& name, int) { return weight_of(model, name); });
  for (const auto& damage : found) CHECK(damage == std::vector<double>{0, 0});
}

TEST_CASE("sensitivity: a unit without a choice is not measured") {
  const Model model = test::tiny_model();
  const std::vector<FusedUnit> units = {
      {"a", 0, {"layers.0.mlp.down"}, {8}},
      {"b", 1, {"layers.1.mlp.down"}, {2, 8}}};
  std::vector<std::string> asked;
  const auto found = measure_sensitivity(
      model, windows(), kPrefix, units, [&](const std::string& name, int bits) {
        asked.push_back(name);
        return test::rounded_rows(weight_of(model, name), bits);
      });
  CHECK(found[0] == std::vector<double>{0});
  CHECK(found[1][0] > 0);
  CHECK(asked == std::vector<std::string>(2, "layers.1.mlp.down"));
}

TEST_CASE("sensitivity: measured again it is the same and the model stays") {
  const Model model = test::tiny_model();
  const double before = test::checksum(model);
  const auto measure = [&] {
    return measure_sensitivity(model, windows(), kPrefix,
                               units_of(model, {3, 4}), rounds_rows_of(model));
  };
  CHECK(measure() == measure());
  CHECK(test::checksum(model) == before);
}

TEST_CASE("sensitivity: predictions that are not finite name their unit") {
  const Model model = test::tiny_model();
  const std::string text = test::error_of(ErrorKind::kNumeric, [&] {
    measure_sensitivity(
        model, windows(), kPrefix,
        {{"layers.1.mlp.down", 1, {"layers.1.mlp.down"}, {2, 4}}},
        [&](const std::string&, int) {
          return DenseWeight{at::full({32, 48}, INFINITY)};
        });
  });
  CHECK(text ==
        "quantization: with layers.1.mlp.down in 2 bits the predictions are "
        "not finite");
}
