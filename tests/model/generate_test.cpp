#include "autoglm/model/generate.h"

#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {
Model compute_model() {
  return to_compute(test::tiny_model(), at::kCPU, at::kFloat);
}
}  // namespace

TEST_CASE("generate: a left-padded row continues as it does alone") {
  const Model model = compute_model();
  const at::Tensor alone = test::random_windows(1, 5);
  GenerateOptions options;
  options.max_tokens = 12;
  options.stop_at_end = false;
  const at::Tensor expected = generate(model, alone, options);
  const at::Tensor padded = at::cat({at::zeros({1, 3}, at::kLong), alone}, 1);
  options.mask =
      at::cat({at::zeros({1, 3}, at::kLong), at::ones({1, 5}, at::kLong)}, 1);
  const at::Tensor found = generate(model, padded, options);
  CHECK(at::equal(found.narrow(1, 3, 17), expected));
}

TEST_CASE("generate: a sequence stops at its end token and stays there") {
  Model model = compute_model();
  const at::Tensor ids = test::random_windows(2, 4);
  GenerateOptions options;
  options.max_tokens = 10;
  options.stop_at_end = false;
  const at::Tensor free = generate(model, ids, options);
  const std::int64_t end = free[0][6].item<std::int64_t>();
  model.architecture.end_ids = {end};
  options.stop_at_end = true;
  const at::Tensor stopped = generate(model, ids, options);
  bool ended = false;
  for (std::int64_t t = 4; t < stopped.size(1); ++t) {
    const std::int64_t id = stopped[0][t].item<std::int64_t>();
    CHECK((!ended || id == end));
    ended = ended || id == end;
  }
  CHECK(ended);
}

TEST_CASE("generate: a seed repeats its text, another gives another") {
  const Model model = compute_model();
  const at::Tensor ids = test::random_windows(1, 4);
  GenerateOptions options;
  options.max_tokens = 30;
  options.temperature = 1.5;
  options.stop_at_end = false;
  const auto with_seed = [&](std::uint64_t seed) {
    Rng rng(seed);
    return generate(model, ids, options, &rng);
  };
  CHECK(at::equal(with_seed(1), with_seed(1)));
  CHECK_FALSE(at::equal(with_seed(1), with_seed(2)));
}

TEST_CASE("generate: the callback may stop") {
  const Model model = compute_model();
  GenerateOptions options;
  options.stop_at_end = false;
  int calls = 0;
  options.on_token = [&](const at::Tensor&) { return ++calls < 3; };
  CHECK(generate(model, test::random_windows(1, 4), options).size(1) == 7);
}
