#include "passes/quantization/quantizer.h"

#include "tests/support/catch.h"

using namespace autoglm;

namespace {
Grid grid(int bits, std::int64_t group, bool symmetric) {
  return {bits, group, symmetric, at::kFloat};
}
}  // namespace

TEST_CASE("quantizer: a 2 x 4 matrix by hand, symmetric") {
  // Row 0: max|w| = 3 -> scale 3 / 1.5 = 2 at 2 bits; zero = 2.
  const at::Tensor w =
      at::tensor({3.f, -1.f, 0.4f, -3.f, 0.f, 0.f, 0.f, 0.f}).view({2, 4});
  const Grid g = grid(2, 4, true);
  const GridFit fit = fit_min_max(w, g);
  CHECK(fit.scales[0][0].item<float>() == 2.f);
  CHECK(fit.scales[1][0].item<float>() == 1.f);  // all zero: any scale
  const at::Tensor codes = nearest_codes(w, fit, g);
  // 3/2+2 = 3.5 -> 4, clipped to 3; -0.5+2 = 1.5 -> 2; 2.2 -> 2; 0.5 -> 0
  CHECK(at::equal(codes[0], at::tensor({3.f, 2.f, 2.f, 0.f})));
  CHECK(at::equal(
      dequantize({codes, fit}, g),
      at::tensor({2.f, 0.f, 0.f, -4.f, 0.f, 0.f, 0.f, 0.f}).view({2, 4})));
}

TEST_CASE("quantizer: a 2 x 4 matrix by hand, asymmetric") {
  // Range [-1, 2] at 2 bits: scale 1, zero 1; a constant row keeps 0 inside.
  const at::Tensor w =
      at::tensor({-1.f, 0.2f, 0.9f, 2.f, 3.f, 3.f, 3.f, 3.f}).view({2, 4});
  const Grid g = grid(2, 4, false);
  const GridFit fit = fit_min_max(w, g);
  const at::Tensor codes = nearest_codes(w, fit, g);
  CHECK(at::equal(codes[0], at::tensor({0.f, 1.f, 2.f, 3.f})));
  CHECK(at::equal(dequantize({codes, fit}, g)[1], w[1]));
}

TEST_CASE("quantizer: the error stays within half a step inside the range") {
  for (const bool symmetric : {true, false})
    for (int bits = 2; bits <= 8; ++bits) {
      const at::Tensor w = at::randn({16, 64});
      const Grid g = grid(bits, 32, symmetric);
      const GridFit fit = fit_min_max(w, g);
      const at::Tensor error =
          (dequantize({nearest_codes(w, fit, g), fit}, g) - w).abs();
      // The full symmetric range clips its positive end by half a step, and
      // an asymmetric zero point is rounded to an integer.
      const at::Tensor limit = fit.scales.repeat_interleave(32, 1) * 1.001;
      CHECK((error <= limit).all().item<bool>());
      CHECK((error <= limit * 0.5).to(at::kFloat).mean().item<float>() > 0.9f);
    }
}

TEST_CASE("quantizer: searched scales are never worse than full ranges") {
  for (const int bits : {2, 3, 4, 8}) {
    const at::Tensor w = at::randn({8, 64}).pow(3);
    const at::Tensor importance = at::rand({64}) + 0.01;
    const Grid g = grid(bits, 16, true);
    const auto error = [&](const GridFit& fit) {
      return ((dequantize({nearest_codes(w, fit, g), fit}, g) - w).square() *
              importance)
          .sum()
          .item<double>();
    };
    CHECK(error(fit_least_error(w, importance, g)) <=
          error(fit_min_max(w, g)) * (1 + 1e-6));
  }
}

TEST_CASE("quantizer: error feedback with independent inputs is rounding") {
  const at::Tensor w = at::randn({8, 48});
  const Grid g = grid(4, 16, true);
  const GridFit fit = fit_min_max(w, g);
  CHECK(at::equal(feedback_codes(w, fit, g, feedback_factor(at::eye(48))),
                  nearest_codes(w, fit, g)));
}

TEST_CASE("quantizer: error feedback lowers the error on correlated inputs") {
  const at::Tensor w = at::randn({32, 160});  // more than one block of columns
  const at::Tensor x = at::mm(at::randn({1000, 20}), at::randn({20, 160})) +
                       at::randn({1000, 160}) * 0.1;
  const at::Tensor moments = at::mm(x.t(), x);
  const Grid g = grid(3, 32, true);
  const GridFit fit = fit_min_max(w, g);
  const auto error = [&](const at::Tensor& codes) {
    return at::mm(x, (dequantize({codes, fit}, g) - w).t())
        .square()
        .sum()
        .item<double>();
  };
  CHECK(error(feedback_codes(w, fit, g, feedback_factor(moments))) <
        0.5 * error(nearest_codes(w, fit, g)));
}

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

TEST_CASE("quantizer: one coordinate by hand") {
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
  // Then the scale: 2 units stand for 2.2.
  CHECK(descend_scales(rounded, g, moments, gradient));
  CHECK(rounded.fit.scales.item<float>() == Approx(1.1).epsilon(1e-6));
  CHECK(std::abs(gradient.item<float>()) < 1e-5);
  CHECK_FALSE(descend_codes(rounded, g, moments, gradient));
}

TEST_CASE("quantizer: descent never raises the loss and tracks its gradient") {
  Descent d(12, 160, 32);  // more than one block of columns
  double loss = d.loss(d.rounded);
  for (int sweep = 0; sweep < 3; ++sweep)
    for (const auto descend : {descend_codes, descend_scales}) {
      descend(d.rounded, d.g, d.moments, d.gradient);
      const double now = d.loss(d.rounded);
      CHECK(now <= loss * (1 + 1e-5));
      loss = now;
      CHECK(at::allclose(d.gradient, d.expected_gradient(), 1e-3, 1e-3));
    }
}

TEST_CASE("quantizer: where descent ends no single code can be better") {
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

TEST_CASE("quantizer: descent leaves inputs of zeros alone") {
  Descent d(4, 8, 4);
  d.moments.zero_();
  d.gradient.zero_();
  const Rounded before = d.rounded;
  CHECK_FALSE(descend_codes(d.rounded, d.g, d.moments, d.gradient));
  CHECK_FALSE(descend_scales(d.rounded, d.g, d.moments, d.gradient));
  CHECK(at::equal(d.rounded.codes, before.codes));
}

TEST_CASE("quantizer: rows in parts give what the whole matrix gives") {
  const Grid g = grid(4, 1 << 14, true);
  const at::Tensor w = at::randn({1030, 1 << 15});  // two parts
  int parts = 0;
  const Rounded joined = by_rows(w, [&](const at::Tensor& rows) {
    ++parts;
    const GridFit fit = fit_min_max(rows, g);
    return Rounded{nearest_codes(rows, fit, g), fit};
  });
  CHECK(parts == 2);
  const GridFit fit = fit_min_max(w, g);
  CHECK(at::equal(joined.fit.scales, fit.scales));
  CHECK(at::equal(joined.codes.to(at::kFloat), nearest_codes(w, fit, g)));
}

TEST_CASE("quantizer: packed it stands for exactly the same numbers") {
  for (const bool symmetric : {true, false}) {
    Grid g = grid(5, 20, symmetric);
    g.scale_dtype = at::kBFloat16;
    const at::Tensor w = at::randn({7, 60});
    const GridFit fit = fit_min_max(w, g);
    const at::Tensor codes = nearest_codes(w, fit, g);
    CHECK(at::equal(to_dense(pack({codes, fit}, g), at::kFloat),
                    dequantize({codes, fit}, g)));
  }
}

TEST_CASE("quantizer: one column and one row work") {
  const Grid g = grid(4, 1, true);
  const at::Tensor w = at::tensor({-2.f}).view({1, 1});
  const GridFit fit = fit_min_max(w, g);
  CHECK(dequantize({nearest_codes(w, fit, g), fit}, g).item<float>() ==
        Approx(-2.0).epsilon(0.07));
}
