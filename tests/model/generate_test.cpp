#include "autoglm/model/generate.h"

#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {
Model compute_model(const std::string& family = "glm") {
  return to_compute(test::tiny_model(family), at::kCPU, at::kFloat);
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

TEST_CASE("generate: greedy is the best of the whole text, in every family") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = compute_model(family);
    GenerateOptions options;
    options.max_tokens = 12;
    options.stop_at_end = false;
    const at::Tensor prompt = test::random_windows(2, 4);
    const at::Tensor ids = generate(model, prompt, options);
    CHECK(ids.narrow(1, 0, 4).equal(prompt));
    const at::Tensor best = forward(model, ids).argmax(-1);
    CHECK(best.narrow(1, 3, 12).equal(ids.narrow(1, 4, 12)));
  }
}

TEST_CASE("generate: the end of a learned table is said, not passed") {
  const Model model = compute_model("glm-2021");  // 65 positions
  GenerateOptions options;
  options.stop_at_end = false;
  options.max_tokens = 62;
  CHECK(generate(model, test::random_windows(1, 4), options).size(1) == 66);
  options.max_tokens = 63;
  CHECK(test::error_of(ErrorKind::kInput, [&] {
          generate(model, test::random_windows(1, 4), options);
        }).find("position 65 is beyond") == 0);
}
