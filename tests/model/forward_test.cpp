#include "autoglm/model/forward.h"

#include <ATen/core/grad_mode.h>

#include <set>

#include "autoglm/model/block_parts.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

Model compute_model(const std::string& family,
                    at::ScalarType dtype = at::kFloat) {
  return to_compute(test::tiny_model(family), at::kCPU, dtype);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a - b).abs().max().item<double>();
}

}  // namespace

// Golden values are in golden_test.cpp.
TEST_CASE("forward: gradients agree with finite differences") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    Model model = compute_model(family, at::kDouble);
    const at::Tensor ids = test::random_windows(1, 6);
    ForwardOptions options;
    options.dtype = at::kDouble;
    Weight& weight = model.blocks[0].mlp.down.weight;
    const at::Tensor start = std::get<DenseWeight>(weight).value;
    const auto loss = [&](const at::Tensor& value) {
      weight = DenseWeight{value};
      return forward(model, ids, options).square().mean();
    };
    at::Tensor leaf = start.clone().requires_grad_(true);
    loss(leaf).backward();
    // Along the gradient, where the slope is largest.
    const at::NoGradGuard no_grad;
    const double slope = leaf.grad().norm().item<double>();
    const at::Tensor direction = leaf.grad() / slope;
    const double step = 1e-3;
    const double measured = (loss(start + direction * step).item<double>() -
                             loss(start - direction * step).item<double>()) /
                            (2 * step);
    // Norms run in fp32, which bounds how well differences can agree.
    CHECK(slope == Approx(measured).epsilon(0.02));
  }
}

TEST_CASE("forward: bf16 is near fp32 and keeps its dtype") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    Model model = test::tiny_model(family);
    const at::Tensor ids = test::random_windows(2, 5);
    // A choice of experts or tokens may turn on a rounding; all of them cannot.
    model.architecture.router.per_token = 4;
    ForwardOptions options;
    options.dtype = at::kBFloat16;
    const at::Tensor half = forward(model, ids, options);
    CHECK(half.scalar_type() == at::kBFloat16);
    const at::Tensor full = forward(model, ids);
    CHECK(full.scalar_type() == at::kFloat);
    CHECK(largest_difference(half.to(at::kFloat), full) <
          0.06 * full.abs().max().item<double>());
  }
}

TEST_CASE("forward: the last token alone, and the states behind the head") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = compute_model(family);
    const at::Tensor ids = test::random_windows(2, 7);
    std::vector<at::Tensor> hidden;
    ForwardOptions options;
    options.on_hidden = [&](at::Tensor x) { hidden.push_back(std::move(x)); };
    const at::Tensor all = forward(model, ids, options);
    REQUIRE(hidden.size() == 3);
    CHECK(all.equal(head_forward(model, hidden.back())));
    options = {};
    options.last_only = true;
    CHECK(largest_difference(forward(model, ids, options),
                             all.narrow(1, 6, 1)) < 1e-4);
    // Two tokens of prefix: the second one predicts the first of the text.
    CHECK(text_states(model, ids, 2, at::kFloat)
              .equal(hidden.back().narrow(1, 1, 5).flatten(0, 1)));
    CHECK(text_states(model, ids, 0, at::kFloat)
              .equal(hidden.back().narrow(1, 0, 6).flatten(0, 1)));
  }
}

TEST_CASE("forward: a norm by hand, with and without a mean") {
  Norm norm;
  norm.gain = at::tensor({1.0f, 2.0f});
  const at::Tensor x = at::tensor({3.0f, 4.0f});
  // Mean square 12.5.
  CHECK(at::allclose(apply_norm(norm, x, 0),
                     at::tensor({0.8485281f, 2.2627417f})));
  norm.bias = at::tensor({0.5f, -1.0f});
  // Mean 3.5, variance 0.25.
  CHECK(at::allclose(apply_norm(norm, x, 0), at::tensor({-0.5f, 1.0f})));
  norm.bias = at::Tensor();
  CHECK(apply_norm(norm, at::zeros({2}), 1e-5).equal(at::zeros({2})));
}

TEST_CASE("sites: every matrix of a block reads one, of its width") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families())
    for (const std::size_t layer : {std::size_t{0}, std::size_t{1}}) {
      INFO(family << " layer " << layer);
      Model model = compute_model(family);
      Block& block = model.blocks[layer];
      const at::Tensor ids = test::random_windows(2, 9);
      const AttentionContext context = attention_context(model, ids);
      const at::Tensor x = at::randn({2, 9, 32});
      std::set<std::string> listed, there;
      for (const auto& [site, names] : block_sites(block)) {
        const at::Tensor input = site_input(
            model, block, static_cast<std::int64_t>(layer), x, context, site);
        for (const std::string& name : names) {
          INFO(name);
          CHECK(listed.insert(name).second);
          CHECK(columns(find_linear(block, name)->weight) == input.size(-1));
          CHECK(input.size(0) == 2);
          CHECK(input.size(1) == 9);
        }
      }
      visit_block(
          block,
          [&](const std::string& name, const Linear&) {
            if (!name.starts_with("mlp.experts.")) there.insert(name);
          },
          [](const std::string&, const at::Tensor&) {});
      CHECK(listed == there);
    }
}

TEST_CASE("sites: what the last one receives makes the block's result") {
  const at::NoGradGuard no_grad;
  for (const std::string family :
       {"glm", "glm4", "chatglm", "chatglm-6b", "glm-2021", "glm4_moe_lite"}) {
    INFO(family);
    const Model model = compute_model(family);
    const Architecture& a = model.architecture;
    const Block& block = model.blocks[0];
    const at::Tensor ids = test::random_windows(1, 6);
    AttentionContext context = attention_context(model, ids);
    const at::Tensor x = at::randn({1, 6, 32});
    const auto at_site = [&](Site site) {
      return site_input(model, block, 0, x, context, site);
    };
    const auto part = [&](const Linear& linear, Site site, const Norm& norm) {
      const at::Tensor y =
          apply_linear(at_site(site), linear.weight, linear.bias);
      return norm.gain.defined() ? apply_norm(norm, y, a.norm_epsilon) : y;
    };
    const at::Tensor attention =
        part(block.attention.output, Site::kOutput, block.after_attention_norm);
    const at::Tensor mlp =
        part(block.mlp.down, Site::kDown, block.after_mlp_norm);
    // ChatGLM-6B adds to the normed input, all others to the stream.
    const at::Tensor expected =
        family == "chatglm-6b" ? at_site(Site::kMlp) * std::sqrt(56.0) + mlp
                               : x + attention + mlp;
    CHECK(at::allclose(block_forward(model, block, 0, x, context), expected,
                       1e-4, 1e-4));
  }
}
