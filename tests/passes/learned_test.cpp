#include "passes/quantization/learned.h"

#include <ATen/core/grad_mode.h>

#include "tests/support/catch.h"

using namespace autoglm;

namespace {

// The same value by autograd: straight through every rounding.
at::Tensor through(const at::Tensor& from, const at::Tensor& to) {
  return from + (to - from).detach();
}

}  // namespace

TEST_CASE("learned matrix: hand-derived gradients equal autograd's") {
  for (const bool symmetric : {true, false})
    for (const int bits : {2, 3, 4, 8}) {
      INFO(bits << " bits, symmetric " << symmetric);
      const Grid grid = {bits, 8, symmetric, at::kBFloat16};
      const at::Tensor w = at::randn({6, 24});
      GridFit fit = fit_min_max(w * 0.6, grid);  // some weights are clamped
      if (symmetric) fit.scales = fit.scales * at::tensor({1.f, -1.f, 1.f});
      LearnedMatrix learned(
          {nearest_codes(w, fit, grid), fit, positions_of(w, fit, grid)}, grid);
      const at::Tensor direction = at::randn({6, 24});
      learned.set_gradients(direction, learned.value());

      const at::AutoGradMode with_gradients(true);
      at::Tensor moves = at::zeros({6, 24}).requires_grad_(true);
      at::Tensor log_scales =
          fit.scales.abs().log().detach().requires_grad_(true);
      at::Tensor zeros = fit.zeros.clone().requires_grad_(true);
      at::Tensor scale = log_scales.exp() * fit.scales.sign();
      scale = through(scale, storable_scales(scale)).unsqueeze(-1);
      const at::Tensor zero = through(zeros, zeros.round()).unsqueeze(-1);
      const at::Tensor base = in_groups(w, grid);
      const at::Tensor position = base / scale + zero + in_groups(moves, grid);
      const at::Tensor code = through(position, position.round())
                                  .clamp(0, static_cast<double>(grid.levels()));
      const at::Tensor value = ((code - zero) * scale).view_as(w);
      CHECK(at::equal(value, learned.value()));
      (value * direction).sum().backward();
      CHECK(at::allclose(learned.moves().grad(), moves.grad(), 1e-4, 1e-5));
      CHECK(at::allclose(learned.log_scales().grad(), log_scales.grad(), 1e-3,
                         1e-3));
      if (symmetric)
        CHECK_FALSE(learned.zeros().defined());
      else
        CHECK(at::allclose(learned.zeros().grad(), zeros.grad(), 1e-3, 1e-4));
    }
}

TEST_CASE("learned matrix: it starts as what it was given, bit for bit") {
  const Grid grid = {3, 8, false, at::kBFloat16};
  const at::Tensor w = at::randn({4, 16});
  const GridFit fit = fit_min_max(w, grid);
  const Rounded start = {nearest_codes(w, fit, grid), fit};
  const LearnedMatrix learned(start, grid);
  CHECK(at::equal(learned.rounded().codes, start.codes));
  CHECK(at::equal(learned.rounded().fit.scales, fit.scales));
  CHECK(at::equal(to_dense(learned.packed(), at::kFloat), learned.value()));
}

TEST_CASE("learned scales: a step up makes every weight of the group larger") {
  const Grid grid = {4, 8, true, at::kBFloat16};
  const at::Tensor w = at::randn({4, 16});
  const GridFit fit = fit_min_max(w, grid);
  LearnedScales learned(pack({nearest_codes(w, fit, grid), fit}, grid));
  const at::Tensor before = learned.value();
  learned.set_gradients(at::ones_like(before), before);
  CHECK(at::allclose(learned.log_scales().grad(),
                     in_groups(before, grid).sum(-1), 1e-4, 1e-5));
  learned.log_scales().data().add_(std::log(2.0));
  CHECK(at::allclose(learned.value(), before * 2, 1e-2, 0));
}

TEST_CASE("learned vector: moves are shares of its entries") {
  const at::Tensor gain = at::tensor({1.f, -2.f, 0.f}).to(at::kBFloat16);
  LearnedVector learned(gain, LearnedVector::Unit::kEntry);
  CHECK(at::equal(learned.stored(), gain));
  learned.moves().data().fill_(0.5);
  CHECK(at::equal(learned.stored().to(at::kFloat),
                  at::tensor({1.5f, -1.f, 0.f})));
}
