#include "autoglm/model/scale_folds.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/block_parts.h"
#include "autoglm/model/mlp.h"
#include "tests/model/golden.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using test::Golden;

namespace {

using Names = std::vector<std::string>;

Names names(const std::vector<ScaleFold>& folds) {
  Names out;
  for (const ScaleFold& fold : folds) out.push_back(fold.name);
  return out;
}

// From an eighth to eight.
at::Tensor random_scales(const ScaleFold& fold) {
  return at::exp2(at::rand({fold.channels}) * 6 - 3);
}

at::Tensor powers_of_two(const ScaleFold& fold) {
  return at::exp2(at::randint(-4, 5, {fold.channels}, at::kFloat));
}

template <class MakeScales>
Model fold_everything(Model model, const MakeScales& scales) {
  for (Block& block : model.blocks)
    for (const ScaleFold& fold : scale_folds(model.architecture, block))
      block = apply_fold(block, fold, scales(fold));
  return model;
}

// What the block returns, with the tokens that its indexer or an earlier one
// picks.
at::Tensor run_block(const Model& model, const Block& block, std::size_t layer,
                     const at::Tensor& x, const AttentionContext& context) {
  AttentionContext own = context;
  return block_forward(model, block, static_cast<std::int64_t>(layer), x, own);
}

// Does a token go through what the fold scales?
bool is_used(const Model& model, const Block& block, std::size_t layer,
             const at::Tensor& x, const AttentionContext& context,
             const ScaleFold& fold) {
  if (!fold.expert) return true;
  const at::Tensor inputs =
      site_input(model, block, static_cast<std::int64_t>(layer), x, context,
                 Site::kMlp)
          .flatten(0, 1);
  const at::Tensor sent =
      route(model.architecture.router, block.mixture, inputs).experts;
  return sent.eq(static_cast<std::int64_t>(*fold.expert)).any().item<bool>();
}

// The folds of a mixture block, `before` those of its attention.
Names mixture(Names before, int experts) {
  before.insert(before.end(), {"mlp", "mlp.shared.down"});
  for (int e = 0; e < experts; ++e)
    before.push_back(fmt::format("mlp.experts.{}.down", e));
  return before;
}

}  // namespace

TEST_CASE("scale_folds: every family stays the model that it is") {
  const at::NoGradGuard no_grad;
  at::manual_seed(1);
  for (const std::string& name : test::golden_names()) {
    INFO(name);
    const Golden golden(name);
    const Model folded = fold_everything(golden.model, random_scales);
    test::compare(forward(folded, golden["input_ids"]), golden["logits"],
                  "logits");
  }
}

TEST_CASE("scale_folds: no fold is without effect on what reads it") {
  const at::NoGradGuard no_grad;
  at::manual_seed(2);
  for (const std::string& name : test::golden_names()) {
    const Golden golden(name);
    const Model& model = golden.model;
    AttentionContext context = attention_context(model, golden["input_ids"]);
    at::Tensor x =
        embed(model, model.embedding, golden["input_ids"], context, at::kFloat);
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      const Block& block = model.blocks[i];
      const at::Tensor before = run_block(model, block, i, x, context);
      for (const ScaleFold& fold : scale_folds(model.architecture, block)) {
        INFO(name << " " << i << " " << fold.name);
        const at::Tensor scales = random_scales(fold);
        Block folded = apply_fold(block, fold, scales);
        const at::Tensor after = run_block(model, folded, i, x, context);
        CHECK(at::allclose(after, before, 1e-4, 1e-4));
        if (!is_used(model, block, i, x, context, fold)) continue;
        // Without the producer's part of it the block is another one.
        Block original = block;
        if (fold.rows.defined())
          *find_linear(folded, fold.producer) =
              *find_linear(original, fold.producer);
        else
          *find_tensor(folded, fold.producer + ".weight") =
              *find_tensor(original, fold.producer + ".weight");
        CHECK_FALSE(at::allclose(run_block(model, folded, i, x, context),
                                 before, 1e-3, 1e-3));
      }
      x = block_forward(model, block, static_cast<std::int64_t>(i), x, context);
    }
  }
}

TEST_CASE(
    "scale_folds: powers of two change no bit of what a bf16 model says") {
  const at::NoGradGuard no_grad;
  at::manual_seed(3);
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = test::tiny_model(family);
    const Model folded = fold_everything(model, powers_of_two);
    CHECK(test::checksum(folded) != test::checksum(model));
    const at::Tensor ids = test::random_windows(3, 12);
    CHECK(at::equal(forward(folded, ids), forward(model, ids)));
    for (const NamedLinear& linear : named_linears(folded))
      CHECK(dtype(weight_of(folded, linear.name)) == at::kBFloat16);
  }
}

TEST_CASE("scale_folds: what is legal in each family") {
  const auto of = [](const std::string& family, std::size_t layer) {
    const Model model = test::tiny_model(family);
    return names(scale_folds(model.architecture, model.blocks[layer]));
  };
  const Names gated = {"attention", "attention.output", "mlp", "mlp.down"};
  CHECK(of("glm", 0) == gated);
  CHECK(of("glm4", 0) == gated);
  CHECK(of("chatglm", 1) == gated);
  // GELU is not linear in its channels.
  CHECK(of("glm-2021", 0) == Names{"attention", "attention.output", "mlp"});
  // What its norms give is added to the stream.
  CHECK(of("chatglm-6b", 0) == Names{"attention.output"});
  CHECK(of("glm4_moe", 0) == gated);
  CHECK(of("glm4_moe", 1) == mixture({"attention", "attention.output"}, 4));
  for (const std::string family : {"glm4_moe_lite", "glm_moe_dsa"})
    CHECK(of(family, 1) ==
          mixture({"attention", "attention.query_b", "attention.key_value_b",
                   "attention.output"},
                  4));
}

TEST_CASE("scale_folds: all that reads a norm is scaled with it") {
  const Model model = test::tiny_model("glm_moe_dsa");
  const std::vector<ScaleFold> folds =
      scale_folds(model.architecture, model.blocks[1]);
  CHECK(folds[0].readers ==
        Names{"attention.query_a", "attention.key_value_a"});
  CHECK(folds[0].tensors == Names{"attention.indexer.key.weight",
                                  "attention.indexer.head_weights.weight"});
  CHECK(folds[1].tensors == Names{"attention.indexer.query.weight"});
  CHECK(folds[4].name == "mlp");
  CHECK(folds[4].readers.size() == 10);  // shared and four experts, two each
  CHECK(folds[4].tensors == Names{"mlp.router.weight"});
}

TEST_CASE("scale_folds: by hand, a LayerNorm and a bias on the value rows") {
  test::TinySize size;
  size.hidden = 2;
  size.heads = size.kv_heads = 1;
  size.head_size = 2;
  size.ffn = 4;
  Model model = test::tiny_model("glm-2021", 1, size);
  Block block = model.blocks[0];
  block.input_norm = {at::tensor({2.0f, 4.0f}), at::tensor({-6.0f, 1.0f})};
  block.attention.query_key_value = {
      DenseWeight{at::arange(12, at::kFloat).view({6, 2})},
      at::arange(6, at::kFloat)};
  block.attention.output.weight =
      DenseWeight{at::tensor({1.0f, 2.0f, 3.0f, 4.0f}).view({2, 2})};
  const std::vector<ScaleFold> folds = scale_folds(model.architecture, block);
  Block folded = apply_fold(block, folds.at(0), at::tensor({2.0f, 0.5f}));
  CHECK(at::equal(folded.input_norm.gain, at::tensor({1.0f, 8.0f})));
  CHECK(at::equal(folded.input_norm.bias, at::tensor({-3.0f, 2.0f})));
  // Columns 0 2 4 ... times 2, columns 1 3 5 ... times a half.
  CHECK(at::equal(to_dense(folded.attention.query_key_value.weight, at::kFloat),
                  at::tensor({0.0f, 0.5f, 4.0f, 1.5f, 8.0f, 2.5f, 12.0f, 3.5f,
                              16.0f, 4.5f, 20.0f, 5.5f})
                      .view({6, 2})));
  CHECK(folded.attention.query_key_value.bias.is_same(
      block.attention.query_key_value.bias));
  // The values are rows 4 and 5.
  folded = apply_fold(block, folds.at(1), at::tensor({4.0f, 0.5f}));
  CHECK(at::equal(to_dense(folded.attention.query_key_value.weight, at::kFloat),
                  at::tensor({0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f,
                              2.0f, 2.25f, 20.0f, 22.0f})
                      .view({6, 2})));
  CHECK(at::equal(folded.attention.query_key_value.bias,
                  at::tensor({0.0f, 1.0f, 2.0f, 3.0f, 1.0f, 10.0f})));
  CHECK(at::equal(to_dense(folded.attention.output.weight, at::kFloat),
                  at::tensor({4.0f, 1.0f, 12.0f, 2.0f}).view({2, 2})));
}

TEST_CASE(
    "scale_folds: query heads of a group share the scales of its values") {
  ScaleFold fold;
  fold.channels = 4;  // two groups of heads of two
  fold.run = 2;
  fold.repeat = 2;
  const at::Tensor scales = at::tensor({1.0f, 2.0f, 3.0f, 4.0f});
  const at::Tensor inputs = fold.for_inputs(scales);
  CHECK(at::equal(
      inputs, at::tensor({1.0f, 2.0f, 1.0f, 2.0f, 3.0f, 4.0f, 3.0f, 4.0f})));
  CHECK(at::equal(fold.greatest_of_inputs(inputs), scales));
  const at::Tensor values =
      at::tensor({1.0f, 2.0f, 5.0f, 0.0f, 3.0f, 4.0f, 3.0f, 8.0f});
  CHECK(at::equal(fold.greatest_of_inputs(values),
                  at::tensor({5.0f, 2.0f, 3.0f, 8.0f})));
  CHECK(at::equal(fold.mean_of_inputs(values),
                  at::tensor({3.0f, 1.0f, 3.0f, 6.0f})));
}

TEST_CASE("scale_folds: columns make up for the rounding of a bf16 gain") {
  const at::NoGradGuard no_grad;
  at::manual_seed(4);
  const Model model = test::tiny_model();
  Block before = model.blocks[0];
  for (const ScaleFold& fold : scale_folds(model.architecture, before)) {
    if (fold.rows.defined()) continue;
    INFO(fold.name);
    Block folded =
        apply_fold(before, fold, random_scales(fold), FoldedMatrices::kFloat);
    const at::Tensor& gain = *find_tensor(folded, fold.producer + ".weight");
    const at::Tensor& old = *find_tensor(before, fold.producer + ".weight");
    CHECK(gain.scalar_type() == at::kBFloat16);
    for (const std::string& name : fold.readers) {
      const Weight& weight = find_linear(folded, name)->weight;
      CHECK(dtype(weight) == at::kFloat);
      CHECK(
          at::allclose(to_dense(weight, at::kFloat) * gain.to(at::kFloat),
                       to_dense(find_linear(before, name)->weight, at::kFloat) *
                           old.to(at::kFloat),
                       1e-6, 1e-8));
    }
  }
}

TEST_CASE("scale_folds: only between dense matrices that are there") {
  const Model model = test::tiny_model();
  const Architecture& a = model.architecture;
  Block block = model.blocks[0];
  block.mlp.down.weight =
      round_float8(to_dense(block.mlp.down.weight, at::kFloat), at::kFloat);
  CHECK(names(scale_folds(a, block)) ==
        Names{"attention", "attention.output", "mlp"});
  // A producer of packed rows cannot be divided either.
  block = model.blocks[0];
  block.attention.value.weight = round_float8(
      to_dense(block.attention.value.weight, at::kFloat), at::kFloat);
  CHECK(names(scale_folds(a, block)) == Names{"mlp", "mlp.down"});
  block = model.blocks[0];
  block.attention = {};
  block.input_norm = {};
  CHECK(names(scale_folds(a, block)) == Names{"mlp", "mlp.down"});
  block = model.blocks[0];
  block.mlp = {};
  block.middle_norm = {};
  CHECK(names(scale_folds(a, block)) == Names{"attention", "attention.output"});
}
