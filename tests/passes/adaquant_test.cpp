#include "passes/quantization/adaquant.h"

#include <ATen/core/grad_mode.h>

#include "tests/support/catch.h"

using namespace autoglm;

namespace {

SplitMoments moments_of(const at::Tensor& x, const at::Tensor& z) {
  SplitMoments out;
  const std::int64_t fit = x.size(0) * 4 / 5;
  out.fit.add(x.narrow(0, 0, fit), z.narrow(0, 0, fit));
  out.held_out.add(x.narrow(0, fit, x.size(0) - fit),
                   z.narrow(0, fit, x.size(0) - fit));
  return out;
}

at::Tensor correlated(std::int64_t tokens, std::int64_t width) {
  return at::mm(at::randn({tokens, width / 2}), at::randn({width / 2, width})) +
         at::randn({tokens, width}) * 0.3;
}

}  // namespace

TEST_CASE("adaquant: the half gradient is autograd's of the squared error") {
  const at::Tensor w = at::randn({5, 12});
  at::Tensor v = at::randn({5, 12}).requires_grad_(true);
  const at::Tensor x = correlated(50, 12), z = x + at::randn({50, 12}) * 0.1;
  Moments moments;
  moments.add(x, z);
  {
    const at::AutoGradMode with_gradients(true);
    (at::mm(x, w.t()) - at::mm(z, v.t())).square().sum().backward();
  }
  CHECK(at::allclose(2 * LayerError(w, moments).half_gradient(v.detach()),
                     v.grad(), 1e-3, 1e-2));
}

TEST_CASE("adaquant: with everything off it is nearest rounding, bit for bit") {
  const at::Tensor w = at::randn({8, 32});
  const at::Tensor x = correlated(100, 32);
  const Grid grid = {4, 16, true, at::kBFloat16};
  AdaquantOptions off;
  off.iterations = 0;
  off.scale_search = false;
  off.error_feedback = false;
  off.sweeps = 0;
  const AdaquantResult result = adaquant(w, {}, grid, moments_of(x, x), off);
  const GridFit fit = fit_min_max(w, grid);
  CHECK(at::equal(result.rounded.codes.to(at::kFloat),
                  nearest_codes(w, fit, grid)));
  CHECK(at::equal(result.rounded.fit.scales, fit.scales));
  CHECK(result.error == result.error_rtn);
}

TEST_CASE("adaquant: held-out error never rises, and falls where it can") {
  for (const bool symmetric : {true, false})
    for (const int bits : {2, 4, 8}) {
      INFO(bits << " bits, symmetric " << symmetric);
      const at::Tensor w = at::randn({24, 64});
      const at::Tensor x = correlated(600, 64);
      const at::Tensor z = x + at::randn({600, 64}) * 0.05;
      const AdaquantResult result = adaquant(
          w, {}, {bits, 32, symmetric, at::kBFloat16}, moments_of(x, z), {});
      CHECK(result.error <= result.error_start);
      CHECK(result.error_start <= result.error_rtn);
      CHECK(result.error < 0.9 * result.error_rtn);
    }
}

TEST_CASE("adaquant: descent and learning improve on error feedback") {
  AdaquantOptions options;
  options.sweeps = 1;
  options.iterations = 200;
  double descent = 0, learned = 0;
  for (int i = 0; i < 6; ++i) {
    const at::Tensor w = at::randn({32, 64});
    const at::Tensor x = correlated(2000, 64);
    const AdaquantResult result = adaquant(w, {}, {3, 32, true, at::kBFloat16},
                                           moments_of(x, x), options);
    CHECK(result.error_descent < 0.97 * result.error_start);
    // Where descent has come to rest learning may find nothing.
    CHECK(result.error <= result.error_descent);
    descent += result.error_descent;
    learned += result.error;
  }
  CHECK(learned < 0.99 * descent);
}

TEST_CASE("adaquant: learning improves on nearest rounding by itself") {
  AdaquantOptions options;
  options.iterations = 200;
  options.scale_search = false;
  options.error_feedback = false;
  options.sweeps = 0;
  options.code_rate = 0.02;
  double nearest = 0, learned = 0;  // over some matrices: single ones differ
  for (int i = 0; i < 8; ++i) {
    const at::Tensor x = correlated(800, 64);
    const AdaquantResult result =
        adaquant(at::randn({16, 64}), {}, {3, 32, true, at::kBFloat16},
                 moments_of(x, x), options);
    nearest += result.error_rtn;
    learned += result.error;
  }
  CHECK(learned < 0.7 * nearest);
}

TEST_CASE("adaquant: a matrix of zeros and inputs of zeros do no harm") {
  const at::Tensor zero = at::zeros({4, 16});
  const at::Tensor x = correlated(50, 16);
  const Grid grid = {4, 16, true, at::kBFloat16};
  const AdaquantResult nothing = adaquant(zero, {}, grid, moments_of(x, x), {});
  CHECK(dequantize(nothing.rounded, grid).abs().max().item<float>() == 0.f);
  const at::Tensor silent = at::zeros({50, 16});
  const AdaquantResult result =
      adaquant(at::randn({4, 16}), {}, grid, moments_of(silent, silent), {});
  CHECK(at::isfinite(dequantize(result.rounded, grid)).all().item<bool>());
}

TEST_CASE("adaquant: a metric over the outputs is what its errors count in") {
  const at::Tensor w = at::randn({24, 64}), x = correlated(3000, 64);
  const SplitMoments moments = moments_of(x, x);
  const Grid grid = {2, 32, true, at::kBFloat16};
  const at::Tensor root = at::randn({24, 3});
  const at::Tensor metric =
      at::mm(root, root.t()) + 0.1 * at::eye(24, at::kFloat);
  const auto cost = [&](const Rounded& rounded) {
    return LayerError(w, moments.held_out, metric)
        .relative(dequantize(rounded, grid));
  };
  const double plain = cost(adaquant(w, {}, grid, moments, {}).rounded);
  const AdaquantResult weighed = adaquant(w, {}, grid, moments, {}, {metric});
  CHECK(weighed.error < 0.8 * plain);
  CHECK(weighed.error == Approx(cost(weighed.rounded)).epsilon(1e-4));
  // Blocks on the diagonal: rows of one block do not see those of another.
  const OutputMetric blocks = {metric.narrow(0, 0, 16).narrow(1, 0, 16),
                               metric.narrow(0, 16, 8).narrow(1, 16, 8)};
  const Rounded whole = adaquant(w, {}, grid, moments, {}, blocks).rounded;
  const Rounded lower =
      adaquant(w.narrow(0, 16, 8), {}, grid, moments, {}, {blocks[1]}).rounded;
  CHECK(at::equal(whole.codes.narrow(0, 16, 8), lower.codes));
}

TEST_CASE("adaquant: the bias takes what rounding adds on average") {
  const at::Tensor w = at::randn({16, 64});
  const at::Tensor bias = at::randn({16});
  const at::Tensor x = correlated(3000, 64) + 2;  // inputs with a mean
  const Grid grid = {2, 32, true, at::kBFloat16};
  AdaquantOptions options;
  options.iterations = 5;
  const SplitMoments moments = moments_of(x, x);
  const AdaquantResult result = adaquant(w, bias, grid, moments, options);
  const at::Tensor q = dequantize(result.rounded, grid);
  const auto error = [&](const at::Tensor& b) {
    return (at::mm(x, (q - w).t()) + (b - bias)).square().mean().item<double>();
  };
  CHECK(error(result.bias) < 0.9 * error(bias));
  CHECK_FALSE(adaquant(w, {}, grid, moments, options).bias.defined());
}

TEST_CASE("adaquant: positions that come with codes round to these codes") {
  const Grid grid = {3, 32, true, at::kBFloat16};
  for (const std::int64_t sweeps : {0, 4}) {
    INFO(sweeps << " sweeps");
    AdaquantOptions options;
    options.iterations = 0;
    options.sweeps = sweeps;
    const at::Tensor x = correlated(2000, 64);
    const Rounded rounded =
        adaquant(at::randn({32, 64}), {}, grid, moments_of(x, x), options)
            .rounded;
    const at::Tensor codes = rounded.codes.to(at::kFloat);
    if (rounded.positions.defined())
      CHECK(at::equal(rounded.positions.round().clamp(0, 7), codes));
    // Error feedback alone keeps what it rounded; descent moves on from there.
    CHECK(rounded.positions.defined() == (sweeps == 0));
  }
}
