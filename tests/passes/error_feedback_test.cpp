#include "passes/quantization/gptq.h"
#include "tests/support/catch.h"
#include "tests/support/throws.h"

using namespace autoglm;

namespace {
Grid grid(int bits, std::int64_t group, bool symmetric) {
  return {bits, group, symmetric, at::kFloat};
}
}  // namespace

TEST_CASE("error feedback: with independent inputs is rounding") {
  const at::Tensor w = at::randn({8, 48});
  const Grid g = grid(4, 16, true);
  const GridFit fit = fit_min_max(w, g);
  CHECK(at::equal(
      round_with_feedback(w, fit, g, make_feedback(at::eye(48))).codes,
      nearest_codes(w, fit, g)));
}

TEST_CASE("error feedback: lowers the error on correlated inputs") {
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
  CHECK(error(round_with_feedback(w, fit, g, make_feedback(moments)).codes) <
        0.5 * error(nearest_codes(w, fit, g)));
}

TEST_CASE("error feedback: two columns by hand") {
  // Both inputs are nearly the same: S = [[1, 0.9], [0.9, 1]], and the damping
  // adds 0.01. The first weight 0.4 rounds to 0; its error 0.4 goes to the
  // second in the proportion 0.9 / 1.01, which takes 0.3 to 0.656: code 1.
  const at::Tensor moments = at::tensor({1.f, 0.9f, 0.9f, 1.f}).view({2, 2});
  const at::Tensor w = at::tensor({0.4f, 0.3f}).view({1, 2});
  const GridFit fit = {at::ones({1, 1}), at::full({1, 1}, 4.f)};
  const Rounded rounded =
      round_with_feedback(w, fit, grid(3, 2, true), make_feedback(moments));
  CHECK(at::equal(rounded.codes, at::tensor({4.f, 5.f}).view({1, 2})));
  CHECK(rounded.positions[0][1].item<float>() ==
        Approx(4 + 0.3 + 0.4 * 0.9 / 1.01).epsilon(1e-5));
}

TEST_CASE("error feedback: columns of more energy come first") {
  const Feedback feedback =
      make_feedback(at::diag(at::tensor({1.f, 4.f, 0.f, 2.f})));
  // The silent input counts as the mean but is ordered as it is.
  CHECK(at::equal(feedback.order, at::tensor({1, 3, 0, 2}, at::kLong)));
  CHECK(feedback.damping == Approx(0.01));
}

TEST_CASE("error feedback: columns may keep their places") {
  const at::Tensor moments = at::diag(at::tensor({1.f, 4.f, 0.f, 2.f}));
  const Feedback feedback = make_feedback(moments, Turns::kAsTheyStand);
  CHECK(at::equal(feedback.order, at::arange(4, at::kLong)));
}

TEST_CASE("error feedback: singular moments take more damping and go on") {
  const at::Tensor x = at::randn({2, 64});
  const Feedback feedback = make_feedback(at::mm(x.t(), x) * 1e-12);
  CHECK(at::isfinite(feedback.factor).all().item<bool>());
  const at::Tensor one = at::ones({1, 64});
  CHECK(at::isfinite(make_feedback(at::mm(one.t(), one) * 1e12).factor)
            .all()
            .item<bool>());
  CHECK(
      at::isfinite(make_feedback(at::zeros({8, 8})).factor).all().item<bool>());
}

TEST_CASE("error feedback: NaN in the moments is a clear error") {
  CHECK(test::error_of(ErrorKind::kNumeric,
                       [] {
                         make_feedback(at::full({4, 4}, std::nanf("")));
                       }) ==
        "the calibration data gives NaN or infinity as the input of a matrix");
}
