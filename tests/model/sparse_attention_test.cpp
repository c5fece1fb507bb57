// The indexer: which tokens a query may see.
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <set>

#include "autoglm/model/forward.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

constexpr std::int64_t kTokens = 12;

Model compute_model() {
  return to_compute(test::tiny_model("glm_moe_dsa"), at::kCPU, at::kFloat);
}

// What the selection lets the query at `row` see.
std::set<std::int64_t> seen(const at::Tensor& selection, std::int64_t row) {
  std::set<std::int64_t> out;
  for (std::int64_t t = 0; t <= row; ++t)
    if (selection[0][0][row][t].item<double>() == 0) out.insert(t);
  return out;
}

}  // namespace

TEST_CASE("indexer: its choice is that of the formula, head by head") {
  const at::NoGradGuard no_grad;
  Model model = compute_model();
  const Architecture& a = model.architecture;
  const IndexerSizes& sizes = a.indexer;
  const Attention& part = model.blocks[0].attention;
  const at::Tensor ids = test::random_windows(1, kTokens);
  AttentionContext context = attention_context(model, ids);
  const at::Tensor x = embed(model, model.embedding, ids, context, at::kFloat);
  const at::Tensor in = apply_norm(model.blocks[0].input_norm, x, 1e-5);
  const at::Tensor vector =
      site_input(model, model.blocks[0], 0, x, context, Site::kQueryB);
  block_forward(model, model.blocks[0], 0, x, context);
  REQUIRE(context.selection.defined());

  const auto turned = [&](const at::Tensor& y) {  // [T, size]
    const at::Tensor front = y.narrow(1, 0, a.latent.rope);
    return at::cat({rotate(front.unsqueeze(0).unsqueeze(0), context,
                           Rotary::kInterleaved)[0][0],
                    y.narrow(1, a.latent.rope, sizes.size - a.latent.rope)},
                   1);
  };
  const at::Tensor key = turned(at::layer_norm(
      at::mm(in[0], part.indexer.key.t()), {sizes.size},
      part.indexer.key_norm.gain, part.indexer.key_norm.bias, 1e-6));
  at::Tensor scores = at::zeros({kTokens, kTokens});
  for (std::int64_t h = 0; h < sizes.heads; ++h) {
    const at::Tensor query = turned(
        at::mm(vector[0],
               part.indexer.query.narrow(0, h * sizes.size, sizes.size).t()));
    const at::Tensor weight = at::mv(in[0], part.indexer.head_weights[h]) /
                              std::sqrt(static_cast<double>(sizes.heads));
    scores = scores + at::relu(at::mm(query, key.t()) /
                               std::sqrt(static_cast<double>(sizes.size))) *
                          weight.unsqueeze(1);
  }
  for (std::int64_t row = 0; row < kTokens; ++row) {
    INFO("row " << row);
    const std::int64_t count = std::min(sizes.top, row + 1);
    const at::Tensor best =
        std::get<1>(scores[row].narrow(0, 0, row + 1).topk(count));
    std::set<std::int64_t> expected;
    for (std::int64_t k = 0; k < count; ++k)
      expected.insert(best[k].item<std::int64_t>());
    // A score of 0 for several tokens is a tie; any of them may be taken.
    const double last =
        scores[row][best[count - 1].item<std::int64_t>()].item<double>();
    const auto found = seen(context.selection, row);
    CHECK(found.size() == expected.size());
    if (std::abs(last) > 1e-6) CHECK(found == expected);
  }
}

TEST_CASE("indexer: no more tokens than it picks means all of them") {
  const at::NoGradGuard no_grad;
  Model model = compute_model();
  const at::Tensor ids = test::random_windows(2, kTokens);
  const at::Tensor sparse = forward(model, ids);
  model.architecture.indexer.top = kTokens;
  const at::Tensor all = forward(model, ids);
  Model plain = model;
  for (Block& block : plain.blocks) block.attention.indexer = {};
  CHECK(at::allclose(forward(plain, ids), all, 1e-5, 1e-5));
  // The first tokens have no more to choose from; later ones do.
  CHECK(at::allclose(sparse.narrow(1, 0, 6), all.narrow(1, 0, 6), 1e-4, 1e-4));
  CHECK_FALSE(
      at::allclose(sparse[0][kTokens - 1], all[0][kTokens - 1], 1e-3, 1e-3));
}

TEST_CASE("indexer: a layer without one sees what the last one picked") {
  const at::NoGradGuard no_grad;
  Json config = test::tiny_config("glm_moe_dsa");
  config["indexer_types"] = {"full", "shared"};
  Model model = compute_model();
  model.architecture = read_architecture(config, "c");
  model.blocks[1].attention.indexer = {};
  const at::Tensor ids = test::random_windows(1, kTokens);
  AttentionContext context = attention_context(model, ids);
  at::Tensor x = embed(model, model.embedding, ids, context, at::kFloat);
  x = block_forward(model, model.blocks[0], 0, x, context);
  const at::Tensor selection = context.selection;
  const at::Tensor shared =
      block_forward(model, model.blocks[1], 1, x, context);
  CHECK(context.selection.is_same(selection));
  // The same selection given by hand; without one the result is another.
  AttentionContext none = attention_context(model, ids);
  CHECK_FALSE(at::allclose(block_forward(model, model.blocks[1], 1, x, none),
                           shared, 1e-3, 1e-3));
  none.selection = selection;
  CHECK(block_forward(model, model.blocks[1], 1, x, none).equal(shared));
  for (std::int64_t row = 0; row < kTokens; ++row)
    CHECK(seen(selection, row).size() ==
          static_cast<std::size_t>(std::min<std::int64_t>(6, row + 1)));
}

TEST_CASE("indexer: padding is not picked") {
  const at::NoGradGuard no_grad;
  const Model model = compute_model();
  const at::Tensor ids = test::random_windows(1, kTokens);
  at::Tensor mask = at::ones({1, kTokens}, at::kLong);
  mask[0].narrow(0, 0, 4).zero_();
  AttentionContext context = attention_context(model, ids, mask);
  const at::Tensor x = embed(model, model.embedding, ids, context, at::kFloat);
  block_forward(model, model.blocks[0], 0, x, context);
  REQUIRE(context.selection.defined());
  const at::Tensor both = context.selection + context.bias;
  for (std::int64_t row = 4; row < kTokens; ++row)
    for (std::int64_t t = 0; t < 4; ++t)
      CHECK(both[0][0][row][t].item<double>() < 0);
  // The last query has 8 real tokens to choose 6 from.
  CHECK((both[0][0][kTokens - 1] == 0).sum().item<std::int64_t>() == 6);
}
