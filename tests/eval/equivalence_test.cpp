#include "autoglm/eval/equivalence.h"

#include <limits>

#include "tests/eval/bigram_model.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;

namespace {

Equivalence found() {
  Equivalence out;
  out.scorecard.perplexity = 22;
  out.scorecard.divergence = Divergence{0.04, 0.6, 0.92, 0.995, 0.05, 0.95};
  out.layers = {{"embedding", 1, 0}, {"layers.0", 0.99, 0.002}};
  return out;
}

EquivalenceCheck named(const std::vector<EquivalenceCheck>& checks,
                       const std::string& part, const std::string& measure) {
  for (const EquivalenceCheck& check : checks)
    if (check.part == part && check.measure == measure) return check;
  FAIL("no check of " << part << " " << measure);
  return {};
}

std::string parse_error(const std::string& text) {
  return error_of(ErrorKind::kConfig, [&] { parse_limits(text); });
}

TokenWindows some_windows() {
  std::vector<std::vector<TokenId>> windows(10);
  for (int i = 0; i < 10; ++i)
    for (int j = 0; j < 12; ++j)
      windows[static_cast<std::size_t>(i)].push_back((i * 7 + j * 5) % 64);
  return test::windows_of({1, 2}, std::move(windows), 100);
}

}  // namespace

TEST_CASE("equivalence: the defaults are cosine, l2 and the same tokens") {
  const auto checks = check_equivalence(found(), {});
  REQUIRE(checks.size() == 7);
  CHECK(checks[0].part == "embedding");
  CHECK(named(checks, "embedding", "cosine").passed);
  CHECK(named(checks, "layers.0", "cosine").limit == 0.995);
  CHECK_FALSE(named(checks, "layers.0", "cosine").passed);
  CHECK_FALSE(named(checks, "layers.0", "l2").passed);
  CHECK(named(checks, "layers.0", "l2").limit == 1e-4);
  CHECK(named(checks, "logits", "cosine").passed);  // at its limit
  CHECK_FALSE(named(checks, "logits", "l2").passed);
  CHECK(named(checks, "logits", "top1_agreement").limit == 1);
  CHECK_FALSE(named(checks, "logits", "top1_agreement").passed);
}

TEST_CASE("equivalence: thresholds go over the defaults") {
  const EquivalenceLimits limits =
      parse_limits("cosine=0.99,l2=1e-3,top1=0.98,perplexity_ratio=1.2");
  CHECK(limits.min_cosine == 0.99);
  CHECK(limits.max_l2 == 1e-3);
  CHECK(limits.min_top1_agreement == 0.98);
  CHECK(limits.max_perplexity_ratio == 1.2);
  CHECK_FALSE(limits.max_kl.has_value());
  CHECK(parse_limits("kl=0.05").min_cosine == 0.995);
  CHECK(parse_limits("top1_agreement=0.5").min_top1_agreement == 0.5);
}

TEST_CASE("equivalence: thresholds that are none are named") {
  CHECK(parse_error("cosin=0.9") ==
        "thresholds: no measure 'cosin' (did you mean 'cosine'?); there are "
        "cosine, l2, top1, kl, kl_p99, accuracy_retention, perplexity_ratio, "
        "top1_agreement");
  CHECK(parse_error("cosine=0.9,l2") ==
        "thresholds: expected measure=number, as in cosine=0.99,l2=1e-3, but "
        "found 'l2'");
  CHECK(parse_error("l2=small") ==
        "thresholds: l2 is to be a number, but is 'small'");
  CHECK(parse_error("l2=1e-3x") ==
        "thresholds: l2 is to be a number, but is '1e-3x'");
  CHECK(parse_error("l2=nan") ==
        "thresholds: l2 is to be a number, but is 'nan'");
  CHECK(parse_error("") ==
        "thresholds: expected measure=number, as in cosine=0.99,l2=1e-3, but "
        "found ''");
}

TEST_CASE("equivalence: every limit has its own measure") {
  Equivalence with = found();
  with.reference_perplexity = 20;
  const auto checks = check_equivalence(
      with, parse_limits("kl=0.0399,kl_p99=0.5,accuracy_retention=0.95,"
                         "perplexity_ratio=1.2"));
  REQUIRE(checks.size() == 11);
  CHECK_FALSE(named(checks, "logits", "kl").passed);
  CHECK(named(checks, "logits", "kl_p99").value == 0.6);
  CHECK_FALSE(named(checks, "logits", "kl_p99").passed);
  CHECK(named(checks, "logits", "accuracy_retention").passed);
  CHECK(named(checks, "logits", "perplexity_ratio").value == Approx(1.1));
  CHECK(named(checks, "logits", "perplexity_ratio").passed);
}

TEST_CASE("equivalence: what is missed is said, of layers the worst") {
  Equivalence with = found();
  with.layers.push_back({"layers.1", 0.98, 0.0011});
  const auto missed = shortfalls(check_equivalence(with, {}));
  CHECK(missed ==
        std::vector<std::string>{
            "layers, worst layers.1: cosine is 0.98, 0.015 below 0.995",
            "layers, worst layers.0: l2 is 0.002, 0.0019 above 0.0001",
            "logits: l2 is 0.05, 0.0499 above 0.0001",
            "logits: top1_agreement is 0.92, 0.08 below 1"});
  CHECK(
      shortfalls(check_equivalence(with, parse_limits("cosine=0,l2=1,top1=0")))
          .empty());
}

TEST_CASE("equivalence: a measure that is NaN never passes") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Equivalence broken = found();
  broken.layers = {{"layers.0", nan, nan}, {"layers.1", 1, 0}};
  broken.scorecard.divergence->top1_agreement = nan;
  const auto checks = check_equivalence(broken, {});
  CHECK_FALSE(named(checks, "layers.0", "cosine").passed);
  CHECK_FALSE(named(checks, "layers.0", "l2").passed);
  CHECK_FALSE(named(checks, "logits", "top1_agreement").passed);
  CHECK(shortfalls(checks).size() == 4);
}

TEST_CASE("equivalence: the JSON says what was asked and what was found") {
  const Json json = to_json(check_equivalence(found(), {}));
  REQUIRE(json.size() == 7);
  CHECK(json[2] == Json({{"part", "layers.0"},
                         {"measure", "cosine"},
                         {"value", 0.99},
                         {"limit", 0.995},
                         {"at_most", false},
                         {"passed", false}}));
  CHECK(to_json(found().layers)[1] ==
        Json({{"layer", "layers.0"}, {"cosine", 0.99}, {"l2", 0.002}}));
  CHECK(to_json(std::vector<EquivalenceCheck>{}) == Json::array());
}

TEST_CASE("equivalence: without a divergence it is our own fault") {
  error_of(ErrorKind::kInternal, [] { check_equivalence({}, {}); });
}

TEST_CASE("equivalence: every family is equivalent to itself") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = test::tiny_model(family);
    const Equivalence same = compare_models(model, model, some_windows());
    CHECK(same.left_out.empty());
    REQUIRE(same.layers.size() == model.blocks.size() + 1);
    CHECK(same.layers[0].layer == "embedding");
    CHECK(same.layers[2].layer == "layers.1");
    for (const LayerDivergence& layer : same.layers) {
      CHECK(layer.cosine == Approx(1).epsilon(1e-6));
      CHECK(layer.l2 == 0);
    }
    CHECK(shortfalls(check_equivalence(same, {})).empty());
  }
}

TEST_CASE("equivalence: a change shows from its layer on, by hand") {
  // Twice an embedding: no angle between the two, as far apart as it is long.
  const Model reference = test::tiny_model();
  Model model = reference;
  model.embedding =
      DenseWeight{to_dense(reference.embedding, at::kBFloat16) * 2};
  const Equivalence embedding =
      compare_models(model, reference, some_windows());
  CHECK(embedding.layers[0].cosine == Approx(1).epsilon(1e-6));
  CHECK(embedding.layers[0].l2 == Approx(1).epsilon(1e-6));
  model = reference;
  Linear& down = model.blocks[1].mlp.down;
  down.weight = DenseWeight{to_dense(down.weight, at::kBFloat16) * 3};
  const Equivalence later = compare_models(model, reference, some_windows());
  CHECK(later.layers[1].l2 == 0);
  CHECK(later.layers[2].l2 > 0.01);
  CHECK(later.layers[2].cosine < 0.9999);
}

TEST_CASE("equivalence: the batch size changes no layer's numbers") {
  Model model = test::tiny_model();
  const Model reference = model;
  Linear& up = model.blocks[0].mlp.gate_up;
  up.weight = DenseWeight{to_dense(up.weight, at::kBFloat16) * 1.5};
  const auto with = [&](std::int64_t batch) {
    EvaluateOptions options;
    options.batch = batch;
    return compare_models(model, reference, some_windows(), options).layers[1];
  };
  CHECK(with(3).l2 == Approx(with(10).l2).epsilon(1e-6));
  CHECK(with(3).cosine == Approx(with(10).cosine).epsilon(1e-6));
}

TEST_CASE("equivalence: with blocks removed only the ends are compared") {
  const Model reference = test::tiny_model();
  Model model = reference;
  model.blocks.pop_back();
  model.architecture.blocks.pop_back();
  const Equivalence ends = compare_models(model, reference, some_windows());
  REQUIRE(ends.layers.size() == 2);
  CHECK(ends.layers[0].layer == "embedding");
  CHECK(ends.layers[0].l2 == 0);
  CHECK(ends.layers[1].layer == "last block");
  CHECK(ends.layers[1].l2 > 0.01);
  CHECK(ends.left_out ==
        "1 blocks, the reference has 2: which belong together is not known, so "
        "only the embedding, the last block and the logits are compared");
}

TEST_CASE("equivalence: streams of other widths are not compared") {
  const Equivalence logits =
      compare_models(test::tiny_model("glm", 1, {.hidden = 48}),
                     test::tiny_model(), some_windows());
  CHECK(logits.layers.empty());
  CHECK(logits.left_out ==
        "the residual stream is 48 wide, the reference's 32: only the logits "
        "are compared");
  CHECK(check_equivalence(logits, {}).size() == 3);
}

TEST_CASE("equivalence: other vocabularies cannot be compared") {
  error_of(ErrorKind::kInput, [] {
    compare_models(test::tiny_model("glm", 1, {.vocabulary = 80}),
                   test::tiny_model(), some_windows());
  });
}
