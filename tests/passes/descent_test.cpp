#include "passes/quantization/descent.h"

#include <cmath>

#include "tests/support/catch.h"

using namespace autoglm;

namespace {
Grid grid(int bits, std::int64_t group, bool symmetric) {
  return {bits, group, symmetric, at::kFloat};
}
}  // namespace

namespace {

// Codes and scales at random, with the half gradient towards `w`.
struct Descent {
  at::Tensor w, moments, gradient;
  Rounded rounded;
  Grid g;

  Descent(std::int64_t out, std::int64_t in, std::int64_t group)
      : w(at::randn({out, in})), g(grid(3, group, false)) {
    const at::Tensor x = at::mm(at::randn({4 * in, in}), at::randn({in, in}));
    moments = at::mm(x.t(), x) / static_cast<double>(in * in);
    rounded.fit = fit_min_max(w, g);
    rounded.codes = at::randint(0, 8, {out, in}).to(at::kFloat);
    gradient = expected_gradient();
  }
  at::Tensor expected_gradient() const {
    return at::mm(dequantize(rounded, g) - w, moments);
  }
  double loss(const Rounded& at) const {
    const at::Tensor change = dequantize(at, g) - w;
    return (at::mm(change, moments) * change).sum().item<double>();
  }
};

}  // namespace

TEST_CASE("descent: one coordinate by hand") {
  // One weight 2.2, scale 1, zero 0, code 5, Szz = 4: half the gradient is
  // (5 - 2.2) * 4 = 11.2, the best value 5 - 11.2 / 4 = 2.2, its code 2.
  const Grid g = grid(3, 1, false);
  Rounded rounded = {at::full({1, 1}, 5.f),
                     {at::ones({1, 1}), at::zeros({1, 1})}};
  at::Tensor gradient = at::full({1, 1}, 11.2f);
  const at::Tensor moments = at::full({1, 1}, 4.f);
  CHECK(descend_codes(rounded, g, moments, gradient));
  CHECK(rounded.codes.item<float>() == 2.f);
  CHECK(gradient.item<float>() == Approx(-0.8).epsilon(1e-5));
  // Then the scale: 2 units stand for 2.2, as near to 1.1 as bf16 comes, which
  // leaves (2 * 1.1015625 - 2.2) * 4 of the gradient.
  CHECK(descend_scales(rounded, g, moments, gradient));
  CHECK(rounded.fit.scales.item<float>() == 1.1015625f);
  CHECK(gradient.item<float>() == Approx(0.0125).epsilon(1e-3));
  CHECK_FALSE(descend_codes(rounded, g, moments, gradient));
}

TEST_CASE("descent: descent never raises the loss and tracks its gradient") {
  Descent d(12, 160, 32);  // more than one block of columns
  double loss = d.loss(d.rounded);
  for (int sweep = 0; sweep < 3; ++sweep)
    for (const auto descend : {descend_codes, descend_scales}) {
      descend(d.rounded, d.g, d.moments, d.gradient, {});
      const double now = d.loss(d.rounded);
      CHECK(now <= loss * (1 + 1e-5));
      loss = now;
      CHECK(at::allclose(d.gradient, d.expected_gradient(), 1e-3, 1e-3));
    }
}

TEST_CASE("descent: rows make up for each other under a metric, by hand") {
  // Both weights are 0.4, both errors -0.4 at code 0. S = [1 .5; .5 1] counts
  // their sum too: with the first at 1 the errors 0.6 and -0.4 cost 0.36 + 0.16
  // - 0.24 = 0.28 instead of 0.48.
  const Grid g = grid(3, 1, false);
  Rounded rounded = {at::zeros({2, 1}), {at::ones({2, 1}), at::zeros({2, 1})}};
  at::Tensor gradient = at::full({2, 1}, -0.4f);
  const at::Tensor moments = at::ones({1, 1});
  const at::Tensor metric = at::tensor({1.f, .5f, .5f, 1.f}).view({2, 2});
  CHECK(descend_codes(rounded, g, moments, gradient, metric));
  CHECK(rounded.codes[0].item<float>() == 1.f);
  CHECK(rounded.codes[1].item<float>() == 0.f);
  CHECK(gradient[0].item<float>() == Approx(0.6));
  CHECK_FALSE(descend_codes(rounded, g, moments, gradient, metric));
}

TEST_CASE("descent: the scale of a long group, alone") {
  Descent d(3, 1100, 1100);
  const at::Tensor codes = d.rounded.codes.clone();
  const double loss = d.loss(d.rounded);
  CHECK(descend_scales(d.rounded, d.g, d.moments, d.gradient));
  CHECK(at::equal(d.rounded.codes, codes));
  CHECK(d.loss(d.rounded) < loss);
}

TEST_CASE("descent: under a metric the loss never rises either") {
  Descent d(70, 160, 32);  // more than two blocks of rows
  const at::Tensor root = at::randn({70, 5});
  const at::Tensor metric =
      at::mm(root, root.t()) + 0.1 * at::eye(70, at::kFloat);
  const auto loss_of = [&] {
    const at::Tensor change = dequantize(d.rounded, d.g) - d.w;
    return (at::mm(metric, at::mm(change, d.moments)) * change)
        .sum()
        .item<double>();
  };
  double loss = loss_of();
  for (int sweep = 0; sweep < 3; ++sweep)
    for (const auto descend : {descend_codes, descend_scales}) {
      descend(d.rounded, d.g, d.moments, d.gradient, metric);
      const double now = loss_of();
      CHECK(now <= loss * (1 + 1e-5));
      loss = now;
      CHECK(at::allclose(d.gradient, d.expected_gradient(), 1e-3, 1e-3));
    }
  Descent same(12, 160, 32);
  Descent plain = same;
  plain.rounded.codes = plain.rounded.codes.clone();
  plain.gradient = plain.gradient.clone();
  descend_codes(same.rounded, same.g, same.moments, same.gradient,
                at::eye(12, at::kFloat));
  descend_codes(plain.rounded, plain.g, plain.moments, plain.gradient);
  CHECK(at::equal(same.rounded.codes, plain.rounded.codes));
}

TEST_CASE("descent: where descent ends no single code can be better") {
  Descent d(3, 6, 3);
  while (descend_codes(d.rounded, d.g, d.moments, d.gradient)) {
  }
  const double loss = d.loss(d.rounded);
  for (std::int64_t r = 0; r < 3; ++r)
    for (std::int64_t c = 0; c < 6; ++c)
      for (int code = 0; code < 8; ++code) {
        Rounded other = d.rounded;
        other.codes = other.codes.clone();
        other.codes[r][c] = code;
        CHECK(d.loss(other) >= loss * (1 - 1e-5));
      }
}

TEST_CASE("descent: descent leaves inputs of zeros alone") {
  Descent d(4, 8, 4);
  d.moments.zero_();
  d.gradient.zero_();
  const Rounded before = d.rounded;
  CHECK_FALSE(descend_codes(d.rounded, d.g, d.moments, d.gradient));
  CHECK_FALSE(descend_scales(d.rounded, d.g, d.moments, d.gradient));
  CHECK(at::equal(d.rounded.codes, before.codes));
}
