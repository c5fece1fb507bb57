#include <algorithm>
#include <limits>

#include "passes/pruning/importance.h"
#include "passes/pruning/obs.h"
#include "passes/pruning/repair.h"
#include "tests/support/catch.h"

using namespace autoglm;

namespace {

// Inputs that depend on each other: [tokens, in].
at::Tensor correlated(std::int64_t tokens, std::int64_t in) {
  return at::mm(at::randn({tokens, in}),
                at::eye(in) + 0.4 * at::randn({in, in}));
}

Moments moments_of(const at::Tensor& x) {
  Moments out;
  out.add({}, x);
  return out;
}

// || W X - V X_K ||^2 with the best V, damped as obs_scores damps, by the
// metric S.
double best_error(const at::Tensor& w, const Moments& moments,
                  const std::vector<std::int64_t>& kept, double ridge,
                  const at::Tensor& metric) {
  const at::Tensor h = moments.compressed.to(at::kDouble);
  const at::Tensor damped =
      h + at::eye(h.size(0), h.options()) * (ridge * h.diagonal().mean());
  const at::Tensor k = at::tensor(kept, at::kLong);
  at::Tensor v = at::zeros_like(w);
  if (!kept.empty())
    v.index_copy_(
        1, k,
        at::mm(at::mm(w, damped.index_select(1, k)),
               damped.index_select(0, k).index_select(1, k).inverse()));
  const at::Tensor e = v - w;
  return at::mm(metric, at::mm(at::mm(e, damped), e.t()))
      .trace()
      .item<double>();
}

// The order in which a greedy search by whole refits removes units.
std::vector<std::int64_t> brute_force(const at::Tensor& w,
                                      const Moments& moments, std::int64_t size,
                                      double ridge, const at::Tensor& metric) {
  std::vector<std::int64_t> left, order;
  for (std::int64_t u = 0; u < w.size(1) / size; ++u) left.push_back(u);
  while (!left.empty()) {
    double best = std::numeric_limits<double>::infinity();
    std::size_t chosen = 0;
    for (std::size_t i = 0; i < left.size(); ++i) {
      std::vector<std::int64_t> kept;
      for (std::size_t j = 0; j < left.size(); ++j)
        for (std::int64_t c = 0; j != i && c < size; ++c)
          kept.push_back(left[j] * size + c);
      const double error = best_error(w, moments, kept, ridge, metric);
      if (error < best) std::tie(best, chosen) = std::pair(error, i);
    }
    order.push_back(left[chosen]);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(chosen));
  }
  return order;
}

std::vector<std::int64_t> order_of(const at::Tensor& scores) {
  const at::Tensor order = at::argsort(scores).contiguous();
  return {order.const_data_ptr<std::int64_t>(),
          order.const_data_ptr<std::int64_t>() + order.numel()};
}

}  // namespace

TEST_CASE("obs: by hand, independent inputs go by weight and energy") {
  // X X' = diag(4, 1, 9) times 1/3 of the tokens each: costs w^2 h.
  const at::Tensor x =
      at::tensor({2.f, 0.f, 0.f, 0.f, 1.f, 0.f, 0.f, 0.f, 3.f}).view({3, 3});
  const at::Tensor w = at::tensor({1.f, 3.f, 0.5f}).view({1, 3});
  const at::Tensor scores = obs_scores(w, moments_of(x), 1, 1, nullptr, 0);
  // 0.25 * 9 = 2.25, then 1 * 4 = 4, then 9 * 1 = 9.
  CHECK(scores[2].item<float>() == Approx(2.25));
  CHECK(scores[0].item<float>() == Approx(4));
  CHECK(scores[1].item<float>() == Approx(9));
}

TEST_CASE("obs: the same order as refitting everything each time") {
  at::manual_seed(21);
  constexpr double kRidge = 1e-3;
  for (int trial = 0; trial < 10; ++trial)
    for (const std::int64_t size : {1, 2})
      for (const bool metric : {false, true}) {
        INFO(trial << " " << size << " " << metric);
        const at::Tensor w = at::randn({5, 8});
        const Moments moments = moments_of(correlated(60, 8));
        at::Tensor s = at::eye(5, at::kDouble);
        OutputMetric outputs;
        if (metric) {
          const at::Tensor g = at::randn({20, 5}, at::kDouble);
          s = at::mm(g.t(), g) / 20;
          outputs = {s.to(at::kFloat)};
          s = outputs[0].to(at::kDouble);
        }
        const at::Tensor scores = obs_scores(
            w, moments, size, 1, metric ? &outputs : nullptr, kRidge);
        CHECK(order_of(scores) ==
              brute_force(w.to(at::kDouble), moments, size, kRidge, s));
      }
}

TEST_CASE("obs: zero, dead and duplicate inputs go first") {
  at::manual_seed(22);
  at::Tensor x = correlated(200, 12);
  x.select(1, 3).zero_();                    // dead
  x.select(1, 9).copy_(x.select(1, 4) * 2);  // 9 says what 4 says
  at::Tensor w = at::randn({6, 12});
  w.select(1, 7).zero_();  // read by nothing
  const std::vector<std::int64_t> order =
      order_of(obs_scores(w, moments_of(x), 1, 1, nullptr, 1e-7));
  const auto position = [&](std::int64_t unit) {
    return std::find(order.begin(), order.end(), unit) - order.begin();
  };
  CHECK(position(3) < 3);
  CHECK(position(7) < 3);
  CHECK(std::min(position(4), position(9)) < 3);
  CHECK(std::max(position(4), position(9)) > 3);
}

TEST_CASE("obs: the order stops at the fewest units, many go at once") {
  at::manual_seed(23);
  const Moments moments = moments_of(correlated(2000, 520));
  const at::Tensor w = at::randn({4, 520});
  // 520 units: two at once.
  const at::Tensor scores = obs_scores(w, moments, 1, 300);
  CHECK(at::isfinite(scores).all().item<bool>());
  // What it keeps is repaired better than what activation keeps.
  SplitMoments split = {moments, moments};
  Evidence evidence;
  const auto error = [&](const at::Tensor& s) {
    return repair_columns(w, largest(s, 300), split, RepairKind::kLeastSquares,
                          false)
        .error_after;
  };
  const at::Tensor activation =
      w.norm(2, 0) * (moments.compressed.diagonal() / moments.tokens).sqrt();
  CHECK(error(scores) < error(activation));
}

TEST_CASE("obs: inputs of zeros have no scores") {
  const at::Tensor scores =
      obs_scores(at::randn({3, 4}), moments_of(at::zeros({10, 4})), 2, 1);
  CHECK(at::equal(scores, at::zeros({2})));
}
