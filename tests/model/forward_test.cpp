#include "autoglm/model/forward.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/formats/safetensors.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/generate.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

const std::filesystem::path kGolden =
    std::filesystem::path(AUTOGLM_SOURCE_DIR) / "tests/golden";

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a - b).abs().max().item<double>();
}

}  // namespace

// Golden values: transformers 5.23.0, fp32, eager attention (golden.json).
TEST_CASE("forward: logits and hidden states match the golden values") {
  for (const char* family : {"glm", "glm4"}) {
    INFO(family);
    const at::NoGradGuard no_grad;
    const Model model =
        to_compute(read_checkpoint(kGolden / family), at::kCPU, at::kFloat);
    const TensorFolder golden =
        TensorFolder::open_file(kGolden / family / "golden.safetensors");
    std::vector<at::Tensor> hidden;
    ForwardOptions options;
    options.on_hidden = [&](at::Tensor x) { hidden.push_back(std::move(x)); };
    const at::Tensor logits =
        forward(model, golden.tensor("input_ids"), options);
    CHECK(largest_difference(logits, golden.tensor("logits")) < 2e-4);
    for (std::size_t i = 0; i < hidden.size(); ++i)
      CHECK(largest_difference(hidden[i],
                               golden.tensor("hidden." + std::to_string(i))) <
            2e-4);

    ForwardOptions padded;
    padded.mask = golden.tensor("padded.attention_mask");
    const at::Tensor out =
        forward(model, golden.tensor("padded.input_ids"), padded);
    CHECK(at::isfinite(out).all().item<bool>());
    const at::Tensor real = padded.mask.to(at::kBool);
    CHECK(largest_difference(out.index({real}),
                             golden.tensor("padded.logits").index({real})) <
          2e-4);
  }
}

TEST_CASE("forward: greedy tokens with the cache match exactly") {
  for (const char* family : {"glm", "glm4"}) {
    INFO(family);
    const Model model =
        to_compute(read_checkpoint(kGolden / family), at::kCPU, at::kFloat);
    const TensorFolder golden =
        TensorFolder::open_file(kGolden / family / "golden.safetensors");
    GenerateOptions options;
    options.max_tokens = 24;
    options.stop_at_end = false;
    CHECK(at::equal(generate(model, golden.tensor("greedy.input_ids"), options),
                    golden.tensor("greedy.output_ids")));
  }
}

TEST_CASE("forward: token by token, in chunks and at once agree") {
  const at::NoGradGuard no_grad;
  const Model model =
      to_compute(test::tiny_model("glm4"), at::kCPU, at::kFloat);
  const at::Tensor ids = test::random_windows(2, 150);
  const at::Tensor whole = forward(model, ids);
  KvCache cache;
  ForwardOptions options;
  options.cache = &cache;
  std::vector<at::Tensor> parts;
  for (const auto& [begin, count] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{
           {0, 70}, {70, 1}, {71, 1}, {72, 60}, {132, 18}})
    parts.push_back(forward(model, ids.narrow(1, begin, count), options));
  CHECK(cache.length() == 150);
  CHECK(largest_difference(at::cat(parts, 1), whole) < 1e-4);
}

TEST_CASE("forward: gradients agree with finite differences") {
  Model model = to_compute(test::tiny_model(), at::kCPU, at::kDouble);
  const at::Tensor ids = test::random_windows(1, 6);
  ForwardOptions options;
  options.dtype = at::kDouble;
  at::Tensor weight =
      std::get<DenseWeight>(model.blocks[0].mlp.down.weight).value.clone();
  const auto loss = [&](const at::Tensor& value) {
    model.blocks[0].mlp.down.weight = DenseWeight{value};
    return forward(model, ids, options).square().mean();
  };
  at::Tensor leaf = weight.clone().requires_grad_(true);
  loss(leaf).backward();
  const double step = 1e-3;
  at::Tensor more = weight.clone(), less = weight.clone();
  more[1][2] += step;
  less[1][2] -= step;
  const double measured =
      (loss(more).item<double>() - loss(less).item<double>()) / (2 * step);
  // Norms run in fp32, which bounds how well differences can agree.
  CHECK(leaf.grad()[1][2].item<double>() ==
        Approx(measured).epsilon(0.02).margin(1e-6));
}

TEST_CASE("forward: bf16 is near fp32 and keeps its dtype") {
  const at::NoGradGuard no_grad;
  const Model model = test::tiny_model();
  const at::Tensor ids = test::random_windows(2, 12);
  ForwardOptions options;
  options.dtype = at::kBFloat16;
  const at::Tensor half = forward(model, ids, options);
  CHECK(half.scalar_type() == at::kBFloat16);
  const at::Tensor full = forward(model, ids);
  CHECK(largest_difference(half.to(at::kFloat), full) <
        0.05 * full.abs().max().item<double>());
}
