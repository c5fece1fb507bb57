#include "eval/metrics.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;

namespace {

const double kLn2 = std::log(2.0);

// Logits whose softmax is the given rows.
at::Tensor log_rows(const std::vector<std::vector<double>>& rows) {
  std::vector<at::Tensor> out;
  for (const auto& row : rows)
    out.push_back(at::tensor(row, at::kDouble).log().to(at::kFloat));
  return at::stack(out);
}

at::Tensor ids(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

Scorecard score(const at::Tensor& logits, const at::Tensor& targets,
                const at::Tensor& original = {}, std::uint64_t bytes = 10) {
  MetricSums sums;
  sums.add(logits, targets, original);
  return sums.scorecard(bytes);
}

}  // namespace

TEST_CASE("metrics: three positions computed by hand") {
  // The targets have probability 1/2, 1/4 and 1/8; the first is the largest
  // of its row, the others are not.
  const at::Tensor logits = log_rows({{0.5, 0.25, 0.125, 0.125},
                                      {0.5, 0.25, 0.125, 0.125},
                                      {0.125, 0.125, 0.25, 0.5}});
  const Scorecard s = score(logits, ids({0, 1, 0}), {}, 12);
  CHECK(s.tokens == 3);
  CHECK(s.text_bytes == 12);
  CHECK(s.perplexity == Approx(4).epsilon(1e-6));       // 2^((1 + 2 + 3) / 3)
  CHECK(s.bits_per_byte == Approx(0.5).epsilon(1e-6));  // 6 bits / 12 bytes
  CHECK(s.accuracy == Approx(1.0 / 3));
  CHECK_FALSE(s.divergence.has_value());
}

TEST_CASE("metrics: divergence of two positions computed by hand") {
  const at::Tensor original = log_rows({{0.5, 0.25, 0.25}, {0.25, 0.25, 0.5}});
  const at::Tensor logits = log_rows({{0.25, 0.5, 0.25}, {0.25, 0.25, 0.5}});
  const Scorecard s = score(logits, ids({0, 2}), original);
  REQUIRE(s.divergence.has_value());
  // First position: 1/2 ln 2 - 1/4 ln 2, second: 0.
  CHECK(s.divergence->kl == Approx(kLn2 / 8).epsilon(1e-6));
  CHECK(s.divergence->top1_agreement == Approx(0.5));
  // Logits (1, 2, 2) and (2, 1, 2) times -ln 2: cosine 8 / 9; then 1.
  CHECK(s.divergence->cosine == Approx((8.0 / 9 + 1) / 2).epsilon(1e-6));
  // The probabilities differ by 1/4 in two places.
  CHECK(s.divergence->l2 == Approx(std::sqrt(2.0) / 8).epsilon(1e-6));
  CHECK(s.accuracy == Approx(0.5));
  CHECK(s.divergence->accuracy_retention == Approx(0.5));
}

TEST_CASE("metrics: kl is of the original from the compressed, not back") {
  const at::Tensor original = log_rows({{0.5, 0.5}});
  const at::Tensor logits = log_rows({{0.25, 0.75}});
  CHECK(score(logits, ids({0}), original).divergence->kl ==
        Approx(0.5 * std::log(4.0 / 3)).epsilon(1e-6));
  CHECK(score(original, ids({0}), logits).divergence->kl ==
        Approx(0.25 * std::log(0.5) + 0.75 * std::log(1.5)).epsilon(1e-6));
}

TEST_CASE("metrics: kl_p99 leaves out the worst hundredth of positions") {
  // 1001 positions: ten bad ones may lie beyond the 99th percentile.
  const at::Tensor original = at::zeros({1001, 2});
  at::Tensor logits = at::zeros({1001, 2});
  for (int i = 0; i < 10; ++i) logits[100 * i] = log_rows({{0.01, 0.99}})[0];
  const at::Tensor targets = at::zeros({1001}, at::kLong);
  CHECK(score(logits, targets, original).divergence->kl_p99 == 0);
  logits[55] = log_rows({{0.25, 0.75}})[0];
  const Scorecard s = score(logits, targets, original);
  const double small = 0.5 * std::log(4.0 / 3);
  const double large = 0.5 * std::log(0.5 / 0.01) + 0.5 * std::log(0.5 / 0.99);
  CHECK(s.divergence->kl_p99 == Approx(small).epsilon(1e-5));
  CHECK(s.divergence->kl == Approx((small + 10 * large) / 1001).epsilon(1e-5));
}

TEST_CASE("metrics: a model against itself is perfect") {
  at::manual_seed(1);
  const at::Tensor logits = at::randn({50, 301}) * 5;
  const Scorecard s = score(logits, at::randint(301, {50}), logits);
  CHECK(s.divergence->kl == 0);
  CHECK(s.divergence->kl_p99 == 0);
  CHECK(s.divergence->top1_agreement == 1);
  CHECK(s.divergence->cosine == Approx(1).epsilon(1e-6));
  CHECK(s.divergence->l2 == 0);
  CHECK(s.divergence->accuracy_retention == 1);
}

TEST_CASE("metrics: accuracy retention above one is not cut off") {
  const at::Tensor original = log_rows({{0.6, 0.4}, {0.6, 0.4}});
  const at::Tensor logits = log_rows({{0.6, 0.4}, {0.4, 0.6}});
  const Scorecard s = score(logits, ids({0, 1}), original);
  CHECK(s.divergence->accuracy_retention == Approx(2));
}

TEST_CASE("metrics: an original that never hits has nothing to lose") {
  const at::Tensor original = log_rows({{0.6, 0.4}});
  CHECK(score(original, ids({1}), original).divergence->accuracy_retention ==
        1);
}

TEST_CASE("metrics: a constant added to the logits changes no probability") {
  at::manual_seed(2);
  const at::Tensor logits = at::randn({20, 97});
  const at::Tensor targets = at::randint(97, {20});
  const Scorecard plain = score(logits, targets, logits);
  const Scorecard moved = score(logits + 50, targets, logits);
  CHECK(moved.perplexity == Approx(plain.perplexity).epsilon(1e-4));
  CHECK(moved.accuracy == plain.accuracy);
  CHECK(moved.divergence->kl == Approx(0).margin(1e-4));
  CHECK(moved.divergence->l2 == Approx(0).margin(1e-4));
  CHECK(moved.divergence->cosine < 0.9);  // of the logits themselves
}

TEST_CASE("metrics: agrees with sums in double precision") {
  at::manual_seed(3);
  const at::Tensor logits = at::randn({64, 513}) * 4;
  const at::Tensor original = logits + at::randn({64, 513});
  const at::Tensor targets = at::randint(513, {64});
  const Scorecard s = score(logits, targets, original);
  const at::Tensor p = at::log_softmax(logits.to(at::kDouble), -1);
  const at::Tensor q = at::log_softmax(original.to(at::kDouble), -1);
  const at::Tensor picked = p.gather(1, targets.unsqueeze(1));
  CHECK(s.perplexity ==
        Approx(std::exp(-picked.mean().item<double>())).epsilon(1e-5));
  CHECK(
      s.divergence->kl ==
      Approx((q.exp() * (q - p)).sum(-1).mean().item<double>()).epsilon(1e-5));
  CHECK(s.divergence->l2 ==
        Approx((q.exp() - p.exp()).norm(2, -1).mean().item<double>())
            .epsilon(1e-5));
  const at::Tensor cosine = at::cosine_similarity(logits.to(at::kDouble),
                                                  original.to(at::kDouble), -1);
  CHECK(s.divergence->cosine ==
        Approx(cosine.mean().item<double>()).epsilon(1e-5));
}

TEST_CASE("metrics: added in pieces or at once is the same") {
  at::manual_seed(4);
  const at::Tensor logits = at::randn({30, 40});
  const at::Tensor original = at::randn({30, 40});
  const at::Tensor targets = at::randint(40, {30});
  const Scorecard whole = score(logits, targets, original);
  MetricSums sums;
  for (std::int64_t i = 0; i < 30; i += 7) {
    const std::int64_t n = std::min<std::int64_t>(7, 30 - i);
    sums.add(logits.narrow(0, i, n), targets.narrow(0, i, n),
             original.narrow(0, i, n));
  }
  const Scorecard pieces = sums.scorecard(10);
  CHECK(pieces.tokens == whole.tokens);
  CHECK(pieces.perplexity == Approx(whole.perplexity).epsilon(1e-6));
  CHECK(pieces.accuracy == whole.accuracy);
  CHECK(pieces.divergence->kl == Approx(whole.divergence->kl).epsilon(1e-6));
  CHECK(pieces.divergence->kl_p99 == whole.divergence->kl_p99);
}

TEST_CASE("metrics: a vocabulary beyond the chunk is cut over positions") {
  // Two positions fit into one chunk of 2^24 logits, so three need two.
  const std::int64_t vocabulary = 1 << 23;
  const at::Tensor logits = at::zeros({1, vocabulary}).expand({3, vocabulary});
  const Scorecard s = score(logits, ids({0, vocabulary - 1, 5}), {}, 3);
  CHECK(s.tokens == 3);
  CHECK(s.bits_per_byte == Approx(23).epsilon(1e-5));
}

TEST_CASE("metrics: half precision logits are judged in fp32") {
  const at::Tensor logits = at::zeros({2, 1024}, at::kBFloat16);
  CHECK(score(logits, ids({3, 4})).perplexity == Approx(1024).epsilon(1e-5));
}

TEST_CASE("metrics: no bytes of text leave bits per byte at zero") {
  CHECK(score(log_rows({{0.5, 0.5}}), ids({0}), {}, 0).bits_per_byte == 0);
}

TEST_CASE("metrics: NaN and infinity are errors, not scores") {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(),
                           std::numeric_limits<double>::infinity()}) {
    at::Tensor logits = at::zeros({3, 5});
    logits[1][4] = bad;
    CHECK(error_of(ErrorKind::kNumeric, [&] {
            score(logits, ids({0, 1, 2}));
          }) == "the model's logits contain NaN or infinity");
    CHECK(error_of(ErrorKind::kNumeric, [&] {
            score(at::zeros({3, 5}), ids({0, 1, 2}), logits);
          }) == "the original's logits contain NaN or infinity");
  }
}

TEST_CASE("metrics: shapes that do not fit are our own fault") {
  MetricSums sums;
  error_of(ErrorKind::kInternal, [&] {
    sums.add(at::zeros({3, 5}), ids({0, 1}));
  });
  error_of(ErrorKind::kInternal, [&] {
    sums.add(at::zeros({2, 5}), ids({0, 1}), at::zeros({2, 4}));
  });
  error_of(ErrorKind::kInternal, [&] { sums.scorecard(1); });
}
