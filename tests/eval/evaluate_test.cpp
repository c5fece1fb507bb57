#include "autoglm/eval/evaluate.h"

#include <cmath>
#include <limits>

#include "autoglm/core/json.h"
#include "autoglm/model/checkpoint.h"
#include "tests/eval/bigram_model.h"
#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

namespace {

const std::filesystem::path kSource = AUTOGLM_SOURCE_DIR;

// After 0 anything but 1 (so that a predicted prefix would show), after 1
// mostly 2, after 2 mostly 3, after 3 anything.
Model chain() {
  return bigram_model({{0.499, 0.001, 0.25, 0.25},
                       {0.125, 0.125, 0.5, 0.25},
                       {0.125, 0.0625, 0.3125, 0.5},
                       {0.25, 0.25, 0.25, 0.25}});
}

// `count` windows of random ids below the example's vocabulary.
TokenWindows random_windows(std::int64_t count, std::int64_t length) {
  at::manual_seed(7);
  const at::Tensor all = at::randint(4000, {count, length}, at::kInt);
  std::vector<std::vector<TokenId>> windows;
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor row = all[i].contiguous();
    const TokenId* data = row.const_data_ptr<TokenId>();
    windows.emplace_back(data, data + length);
  }
  return windows_of({4088, 4090}, std::move(windows), 100);
}

}  // namespace

TEST_CASE("window_ids: every row is the prefix and then the window") {
  const at::Tensor ids =
      window_ids(windows_of({7, 8}, {{1, 2, 3}, {4, 5, 6}}, 6));
  CHECK(at::equal(
      ids, at::tensor({7, 8, 1, 2, 3, 7, 8, 4, 5, 6}, at::kLong).view({2, 5})));
}

TEST_CASE("evaluate: prefix tokens condition but are never predicted") {
  // P(2 | 1) = 1/2, P(3 | 2) = 1/2; P(1 | 0) = 1/1000 must not count.
  const Scorecard s = evaluate(chain(), windows_of({0, 1}, {{2, 3}}, 4));
  CHECK(s.tokens == 2);
  CHECK(s.perplexity == Approx(2).epsilon(1e-6));
  CHECK(s.bits_per_byte == Approx(0.5).epsilon(1e-6));
  CHECK(s.accuracy == 1);
  CHECK(s.windows == 1);
  CHECK(s.length == 2);
  CHECK(s.text_bytes == 4);
  CHECK(s.data == "by hand");
  CHECK_FALSE(s.divergence.has_value());
}

TEST_CASE("evaluate: the last prefix token predicts the first text token") {
  // One window of one token: the only prediction there is, P(3 | 1) = 1/4.
  const Scorecard s = evaluate(chain(), windows_of({0, 1}, {{3}}, 1));
  CHECK(s.tokens == 1);
  CHECK(s.perplexity == Approx(4).epsilon(1e-6));
  CHECK(s.bits_per_byte == Approx(2).epsilon(1e-6));
  CHECK(s.accuracy == 0);
}

TEST_CASE("evaluate: windows do not see each other") {
  // P(2|1) P(3|2) and P(3|1) P(0|3), whatever stands beside them.
  const Scorecard s =
      evaluate(chain(), windows_of({0, 1}, {{2, 3}, {3, 0}}, 4));
  CHECK(s.tokens == 4);
  CHECK(s.bits_per_byte == Approx((1.0 + 1 + 2 + 2) / 4).epsilon(1e-6));
}

TEST_CASE("evaluate: without a prefix the first token is only read") {
  const Scorecard s = evaluate(chain(), windows_of({}, {{1, 2, 3}}, 3));
  CHECK(s.tokens == 2);
  CHECK(s.perplexity == Approx(2).epsilon(1e-6));
}

TEST_CASE("evaluate: one token without prefix predicts nothing") {
  CHECK(error_of(ErrorKind::kConfig, [] {
          evaluate(chain(), windows_of({}, {{1}}, 1));
        }) == "windows of one token predict nothing without prefix tokens");
}

TEST_CASE("evaluate: divergence from an original, by hand") {
  Model other = chain();
  // Swaps the probabilities of 2 and 3 after 1: 1/2 and 1/4.
  at::Tensor head = to_dense(other.head->weight, at::kFloat).clone();
  head[2][1] = std::log(0.25f);
  head[3][1] = std::log(0.5f);
  other.head->weight = DenseWeight{head};
  const Model original = chain();
  const Scorecard s =
      evaluate(other, windows_of({0, 1}, {{2, 3}}, 2), &original);
  REQUIRE(s.divergence.has_value());
  CHECK(s.perplexity == Approx(std::sqrt(8.0)).epsilon(1e-6));
  CHECK(s.divergence->kl == Approx(std::log(2.0) / 8).epsilon(1e-5));
  CHECK(s.divergence->top1_agreement == 0.5);
  CHECK(s.divergence->accuracy_retention == 0.5);
  CHECK(s.divergence->l2 == Approx(std::sqrt(2.0) / 8).epsilon(1e-5));
}

TEST_CASE("evaluate: NaN is an error that names the windows") {
  Model model = chain();
  at::Tensor table = at::eye(4);
  table[3][0] = std::numeric_limits<float>::quiet_NaN();
  model.embedding = DenseWeight{table};
  EvaluateOptions options;
  options.batch = 1;
  const auto windows = windows_of({0, 1}, {{2, 2}, {2, 3}, {3, 2}, {2, 2}}, 8);
  // Window 1 only predicts token 3, window 2 reads it.
  CHECK(error_of(ErrorKind::kNumeric,
                 [&] { evaluate(model, windows, nullptr, options); }) ==
        "the model's logits contain NaN or infinity\n"
        "  in the evaluation windows 2 to 2");
}

TEST_CASE("evaluate: an original of another vocabulary is refused") {
  const Model original = short_example(1);
  CHECK(error_of(ErrorKind::kInput, [&] {
          evaluate(chain(), windows_of({0, 1}, {{2, 3}}, 2), &original);
        }) == "the vocabularies differ: 4 and 4096");
}

TEST_CASE("evaluate: a model is its own equal") {
  const Model model = short_example(2);
  const Scorecard s = evaluate(model, random_windows(3, 20), &model);
  CHECK(s.tokens == 60);
  CHECK(s.divergence->kl == 0);
  CHECK(s.divergence->kl_p99 == 0);
  CHECK(s.divergence->top1_agreement == 1);
  CHECK(s.divergence->cosine == Approx(1).epsilon(1e-5));
  CHECK(s.divergence->l2 == 0);
  CHECK(s.divergence->accuracy_retention == 1);
}

TEST_CASE("evaluate: the batch size changes nothing but rounding") {
  const Model original = short_example(2);
  Model model = original;
  round_weight(model, "layers.0.mlp.down", 3, 64);
  const TokenWindows windows = random_windows(5, 24);
  EvaluateOptions options;
  options.batch = 5;
  const Scorecard whole = evaluate(model, windows, &original, options);
  for (const std::int64_t batch : {1, 2, 100}) {
    INFO("batch " << batch);
    options.batch = batch;
    const Scorecard s = evaluate(model, windows, &original, options);
    CHECK(s.tokens == whole.tokens);
    CHECK(s.perplexity == Approx(whole.perplexity).epsilon(1e-4));
    CHECK(s.accuracy == Approx(whole.accuracy).margin(0.01));
    CHECK(s.divergence->kl == Approx(whole.divergence->kl).epsilon(1e-3));
    CHECK(s.divergence->cosine ==
          Approx(whole.divergence->cosine).epsilon(1e-4));
  }
}

TEST_CASE("evaluate: states of the original that are kept are not run again") {
  const Model original = short_example(2);
  Model model = original;
  round_weight(model, "layers.0.mlp.down", 3, 64);
  const TokenWindows windows = random_windows(5, 24);
  EvaluateOptions options;
  options.batch = 2;
  const Json plain = to_json(evaluate(model, windows, &original, options));
  std::vector<at::Tensor> own, beside;
  options.original_states = &own;
  evaluate(original, windows, nullptr, options);  // the original itself
  options.original_states = &beside;
  evaluate(model, windows, &original, options);  // in a comparison
  // With other blocks in the original the result stays what it was.
  Model spoiled = original;
  round_weight(spoiled, "layers.1.mlp.down", 2, 64);
  for (std::vector<at::Tensor>* states : {&own, &beside}) {
    REQUIRE(states->size() == 3);
    CHECK(states->front().sizes() == at::IntArrayRef({48, 256}));
    CHECK(states->back().sizes() == at::IntArrayRef({24, 256}));
    options.original_states = states;
    CHECK(to_json(evaluate(model, windows, &spoiled, options)) == plain);
  }
  options.original_states = nullptr;
  CHECK(to_json(evaluate(model, windows, &spoiled, options)) != plain);
}

TEST_CASE("evaluate: a batch larger than the head takes at once is the same") {
  // The head sees 2^25 logits at a time, here 8192 positions; this batch has
  // 8448. Without blocks the head is all there is to compute.
  const Model model = short_example(0);
  const TokenWindows windows = random_windows(33, 256);
  EvaluateOptions options;
  const double apart = evaluate(model, windows, nullptr, options).perplexity;
  options.batch = 33;
  CHECK(evaluate(model, windows, nullptr, options).perplexity ==
        Approx(apart).epsilon(1e-5));
}

TEST_CASE("evaluate: coarser codes are further from the original") {
  const Model original = short_example(2);
  const TokenWindows windows = random_windows(2, 32);
  double last = 0;
  for (const int bits : {8, 4, 2}) {
    Model model = original;
    for (const char* name : {"layers.0.mlp.down", "layers.1.mlp.gate_up"})
      round_weight(model, name, bits, 64);
    const Scorecard s = evaluate(model, windows, &original);
    INFO(bits << " bits: kl " << s.divergence->kl);
    CHECK(s.divergence->kl > last);
    CHECK(s.divergence->kl_p99 >= s.divergence->kl);
    CHECK(s.divergence->cosine < 1);
    last = s.divergence->kl;
  }
}

TEST_CASE("evaluate: bf16 stays near fp32") {
  const Model model = short_example(2);
  const TokenWindows windows = random_windows(2, 32);
  EvaluateOptions options;
  const double wide = evaluate(model, windows, nullptr, options).perplexity;
  options.dtype = at::kBFloat16;
  CHECK(evaluate(model, windows, nullptr, options).perplexity ==
        Approx(wide).epsilon(0.02));
}

// The numbers are those of tests/golden/transformers_perplexity.py.
TEST_CASE("evaluate: the example model scores as in transformers") {
  const Json golden =
      read_json(kSource / "tests/golden/transformers_perplexity.json");
  const Json& expected = golden["results"][0];
  const auto count = expected["windows"].get<std::int64_t>();
  const auto length = expected["length"].get<std::int64_t>();
  REQUIRE(count == 20);
  const std::filesystem::path folder =
      kSource / golden["model"].get<std::string>();
  const TokenWindows windows =
      make_windows(Tokenizer::load(folder),
                   kSource / golden["data"].get<std::string>(), count, length);
  CHECK(windows.prefix == golden["prefix"].get<std::vector<TokenId>>());
  const auto first = golden["first_ids"].get<std::vector<TokenId>>();
  CHECK(std::vector<TokenId>(windows.windows[0].begin(),
                             windows.windows[0].begin() +
                                 static_cast<std::ptrdiff_t>(first.size())) ==
        first);
  const Scorecard s = evaluate(read_checkpoint(folder), windows);
  CHECK(s.tokens == expected["tokens"].get<std::int64_t>());
  CHECK(s.text_bytes == expected["text_bytes"].get<std::uint64_t>());
  CHECK(s.perplexity ==
        Approx(expected["perplexity"].get<double>()).epsilon(0.001));
  CHECK(s.bits_per_byte ==
        Approx(expected["bits_per_byte"].get<double>()).epsilon(0.001));
  CHECK(s.accuracy == Approx(expected["accuracy"].get<double>()).margin(0.001));
}
