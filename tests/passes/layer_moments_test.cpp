#include "passes/layer_moments.h"

#include "passes/pruning/repair.h"
#include "tests/support/throws.h"

using namespace autoglm;

TEST_CASE("layer moments: the relative error is that of the outputs") {
  const at::Tensor x = at::randn({40, 6}), z = at::randn({40, 6});
  const at::Tensor w = at::randn({3, 6}), v = at::randn({3, 6});
  Moments moments;
  moments.add(x.narrow(0, 0, 15), z.narrow(0, 0, 15));
  moments.add(x.narrow(0, 15, 25), z.narrow(0, 15, 25));
  const at::Tensor y = at::mm(x, w.t());
  const double expected =
      ((y - at::mm(z, v.t())).square().sum() / y.square().sum()).item<double>();
  CHECK(LayerError(w, moments).relative(v) == Approx(expected).epsilon(1e-4));
  CHECK(moments.tokens == 40);
}

TEST_CASE("layer moments: a tenth of the batches is held out") {
  CHECK(held_out_batches(1) == 0);
  CHECK(held_out_batches(2) == 1);
  CHECK(held_out_batches(16) == 1);
  CHECK(held_out_batches(30) == 3);
}

TEST_CASE("layer moments: singular systems are solved, NaN is reported") {
  const at::Tensor singular = at::ones({3, 3});
  CHECK(at::isfinite(solve_spd(singular, at::ones({3, 1}))).all().item<bool>());
  test::error_of(ErrorKind::kNumeric, [] {
    solve_spd(at::full({2, 2}, NAN), at::ones({2, 1}));
  });
}

TEST_CASE("moments: a token of weight 2 counts as two tokens") {
  const at::Tensor x = at::randn({3, 4}), z = at::randn({3, 4});
  Moments weighed, doubled;
  weighed.add(x, z, at::tensor({1.f, 2.f, 0.f}));
  const at::Tensor index = at::tensor({0, 1, 1}, at::kLong);
  doubled.add(x.index_select(0, index), z.index_select(0, index));
  CHECK(weighed.tokens == 3);
  CHECK(at::allclose(weighed.compressed, doubled.compressed, 1e-5, 1e-6));
  CHECK(at::allclose(weighed.drift_cross, doubled.drift_cross, 1e-5, 1e-6));
  CHECK(at::allclose(weighed.drift, doubled.drift, 1e-5, 1e-6));
  CHECK(at::allclose(weighed.sum, doubled.sum, 1e-5, 1e-6));
  CHECK(at::allclose(weighed.drift_sum, doubled.drift_sum, 1e-5, 1e-6));
}

TEST_CASE("moments: a layer's error under a metric over its outputs") {
  const at::Tensor x = at::randn({50, 4}), z = x + 0.3 * at::randn({50, 4});
  const at::Tensor w = at::randn({3, 4}), v = at::randn({3, 4});
  const at::Tensor root = at::randn({3, 3});
  const at::Tensor metric = at::mm(root, root.t());
  Moments moments;
  moments.add(x, z);
  const LayerError error(w, moments, metric);
  const auto cost = [&](const at::Tensor& y) {
    return (at::mm(y, metric) * y).sum().item<double>();
  };
  CHECK(error.energy() == Approx(cost(at::mm(x, w.t()))).epsilon(1e-4));
  CHECK(error.relative(v) * error.energy() ==
        Approx(cost(at::mm(z, v.t()) - at::mm(x, w.t()))).epsilon(1e-4));
}

TEST_CASE("repair: a copy of a removed column takes over its work") {
  // Input 3 equals input 0; without it column 0 must do both jobs.
  at::Tensor x = at::randn({400, 4});
  x.select(1, 3).copy_(x.select(1, 0));
  const at::Tensor w = at::tensor({1.f, 2.f, 3.f, 4.f}).view({1, 4});
  SplitMoments moments;
  moments.fit.add(x.narrow(0, 0, 300), x.narrow(0, 0, 300));
  moments.held_out.add(x.narrow(0, 300, 100), x.narrow(0, 300, 100));
  const Repair repair =
      repair_columns(w, at::tensor({0, 1, 2}, at::kLong), moments,
                     RepairKind::kLeastSquares, /*with_bias=*/false);
  CHECK(repair.weight[0][0].item<float>() == Approx(5).epsilon(0.01));
  CHECK(repair.weight[0][1].item<float>() == Approx(2).epsilon(0.01));
  CHECK(repair.error_after < 1e-3 * repair.error_before);
}

TEST_CASE("repair: a bias stands for the mean of what went") {
  // The removed input is 3 for every token and weighs 2.
  at::Tensor x = at::randn({200, 3});
  x.select(1, 2).fill_(3);
  const at::Tensor w = at::tensor({1.f, -1.f, 2.f}).view({1, 3});
  SplitMoments moments;
  moments.fit.add(x.narrow(0, 0, 150), x.narrow(0, 0, 150));
  moments.held_out.add(x.narrow(0, 150, 50), x.narrow(0, 150, 50));
  const at::Tensor kept = at::tensor({0, 1}, at::kLong);
  for (const RepairKind kind : {RepairKind::kBias, RepairKind::kLeastSquares}) {
    const Repair repair = repair_columns(w, kept, moments, kind, true);
    REQUIRE(repair.bias.defined());
    CHECK(repair.bias.item<float>() == Approx(6).epsilon(1e-3));
    CHECK(at::allclose(repair.weight, w.index_select(1, kept), 1e-2, 1e-2));
    CHECK(repair.error_after < 1e-4 * repair.error_before);
  }
  const Repair cut = repair_columns(w, kept, moments, RepairKind::kNone, true);
  CHECK_FALSE(cut.bias.defined());
  CHECK(cut.error_after == cut.error_before);
}

TEST_CASE("repair: inputs of zeros keep the plain cut") {
  const at::Tensor x = at::zeros({10, 4}), w = at::randn({2, 4});
  SplitMoments moments;
  moments.fit.add(x, x);
  moments.held_out.add(x, x);
  const at::Tensor kept = at::tensor({1, 3}, at::kLong);
  const Repair repair =
      repair_columns(w, kept, moments, RepairKind::kLeastSquares, true);
  CHECK(at::equal(repair.weight, w.index_select(1, kept)));
  CHECK(repair.ridge == 0);
}
