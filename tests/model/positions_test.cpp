#include "autoglm/model/positions.h"

#include <ATen/core/grad_mode.h>

#include <cmath>

#include "autoglm/model/forward.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;

namespace {

at::Tensor rows(const std::vector<std::vector<std::int64_t>>& values) {
  std::vector<at::Tensor> out;
  for (const auto& row : values) out.push_back(at::tensor(row, at::kLong));
  return at::stack(out);
}

// Blanks 60 (sentence) and 61 (end of text, comes first), start 62.
Model blank_model(const std::string& family) {
  Model model = test::tiny_model(family);
  model.architecture.blank = {{{61}, {60}}, 62};
  return model;
}

// Allowed pairs of an additive mask [B, 1, T, T_all], as 0 and 1.
at::Tensor allowed(const at::Tensor& bias) {
  return (bias == 0).select(1, 0).to(at::kLong);
}

}  // namespace

TEST_CASE("positions: padding at the left is not counted") {
  const Model model = test::tiny_model("glm");
  const at::Tensor ids = test::random_windows(2, 5);
  const at::Tensor mask = rows({{0, 0, 1, 1, 1}, {1, 1, 1, 1, 1}});
  CHECK(attention_context(model, ids, mask)
            .positions.equal(rows({{0, 0, 0, 1, 2}, {0, 1, 2, 3, 4}})));
  // What comes after counts on in every row, and need not say that it is real.
  KvCache cache;
  ForwardOptions options;
  options.cache = &cache;
  options.mask = mask;
  forward(model, ids, options);
  const AttentionContext next =
      attention_context(model, rows({{1}, {1}}), {}, {}, &cache);
  CHECK(next.positions.equal(rows({{3}, {5}})));
  CHECK(allowed(next.bias).equal(
      rows({{0, 0, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1}}).unsqueeze(1)));
}

TEST_CASE("positions: without a mask they are those of the tokens") {
  const Model model = test::tiny_model("glm");
  const AttentionContext context =
      attention_context(model, test::random_windows(3, 4));
  CHECK(context.positions.equal(rows({{0, 1, 2, 3}})));
  CHECK_FALSE(context.bias.defined());
}

TEST_CASE("positions: a blank's filling stays at the blank and counts inside") {
  const Model model = blank_model("chatglm-6b");
  const at::Tensor ids = rows({
      {7, 8, 61, 62, 9, 10},   // the usual prompt
      {7, 60, 8, 62, 9, 10},   // a blank inside the text
      {60, 61, 8, 62, 9, 10},  // 61 goes before 60
      {7, 8, 9, 62, 9, 10},    // no blank: the prompt's last place
      {62, 7, 8, 9, 10, 11},   // nothing before the start
      {7, 8, 61, 9, 10, 11},   // no start: plain text
  });
  const AttentionContext context = attention_context(model, ids);
  CHECK(context.positions.equal(rows({{0, 1, 2, 2, 2, 2},
                                      {0, 1, 2, 1, 1, 1},
                                      {0, 1, 2, 1, 1, 1},
                                      {0, 1, 2, 2, 2, 2},
                                      {0, 0, 0, 0, 0, 0},
                                      {0, 1, 2, 3, 4, 5}})));
  CHECK(context.block_positions.equal(rows({{0, 0, 0, 1, 2, 3},
                                            {0, 0, 0, 1, 2, 3},
                                            {0, 0, 0, 1, 2, 3},
                                            {0, 0, 0, 1, 2, 3},
                                            {1, 2, 3, 4, 5, 6},
                                            {0, 0, 0, 0, 0, 0}})));
  // All see the whole prompt, and of the rest what lies behind.
  CHECK(allowed(context.bias)[0].equal(rows({{1, 1, 1, 0, 0, 0},
                                             {1, 1, 1, 0, 0, 0},
                                             {1, 1, 1, 0, 0, 0},
                                             {1, 1, 1, 1, 0, 0},
                                             {1, 1, 1, 1, 1, 0},
                                             {1, 1, 1, 1, 1, 1}})));
  const at::Tensor causal = at::ones({6, 6}, at::kLong).tril();
  CHECK(allowed(context.bias)[4].equal(causal));
  CHECK(allowed(context.bias)[5].equal(causal));
}

TEST_CASE("positions: the first of a group of blanks counts") {
  Model model = blank_model("glm-2021");
  model.architecture.blank.masks = {{60, 61}};
  const AttentionContext context =
      attention_context(model, rows({{7, 61, 60, 62, 9}, {60, 7, 61, 62, 9}}));
  CHECK(context.positions.equal(rows({{0, 1, 2, 1, 1}, {0, 1, 2, 0, 0}})));
}

TEST_CASE("positions: padding before a prompt, in both published ways") {
  const at::Tensor ids = rows({{3, 3, 7, 61, 62, 9}});
  const at::Tensor mask = rows({{0, 0, 1, 1, 1, 1}});
  // ChatGLM-6B counts from the first real token.
  const AttentionContext own =
      attention_context(blank_model("chatglm-6b"), ids, mask);
  CHECK(own.positions.equal(rows({{0, 0, 0, 1, 1, 1}})));
  CHECK(own.block_positions.equal(rows({{0, 0, 0, 0, 1, 2}})));
  // The code of 2021 counts from the left edge.
  const AttentionContext old =
      attention_context(blank_model("glm-2021"), ids, mask);
  CHECK(old.positions.equal(rows({{0, 1, 2, 3, 3, 3}})));
  CHECK(old.block_positions.equal(rows({{0, 0, 0, 0, 1, 2}})));
  // Padding sees itself alone, so that its row is finite.
  CHECK(allowed(own.bias)[0].equal(rows({{1, 0, 1, 1, 0, 0},
                                         {0, 1, 1, 1, 0, 0},
                                         {0, 0, 1, 1, 0, 0},
                                         {0, 0, 1, 1, 0, 0},
                                         {0, 0, 1, 1, 1, 0},
                                         {0, 0, 1, 1, 1, 1}})));
}

TEST_CASE("positions: steps go on where the prompt ended, in every row") {
  const at::NoGradGuard no_grad;
  for (const char* family : {"chatglm-6b", "glm-2021"}) {
    INFO(family);
    const Model model = blank_model(family);
    KvCache cache;
    ForwardOptions options;
    options.cache = &cache;
    // The second row has no start token, and none to come.
    forward(model, rows({{7, 61, 62}, {7, 8, 9}}), options);
    for (std::int64_t step = 0; step < 4; ++step) {
      const at::Tensor ids = rows({{5}, {5}});
      const AttentionContext context =
          attention_context(model, ids, {}, {}, &cache);
      CHECK(context.positions.equal(rows({{1}, {3 + step}})));
      CHECK(context.block_positions.equal(rows({{2 + step}, {0}})));
      forward(model, ids, options);
    }
  }
}

TEST_CASE("positions: given ones are taken, and tell the prompt") {
  const Model model = test::tiny_model("chatglm-6b");
  const at::Tensor given = at::stack(
      {rows({{0, 1, 1, 1}, {0, 1, 2, 3}}), rows({{0, 0, 1, 2}, {0, 0, 0, 0}})},
      1);
  const AttentionContext context =
      attention_context(model, test::random_windows(2, 4), {}, given);
  CHECK(context.positions.equal(given.select(1, 0)));
  CHECK(context.block_positions.equal(given.select(1, 1)));
  CHECK(allowed(context.bias)[0].equal(
      rows({{1, 1, 0, 0}, {1, 1, 0, 0}, {1, 1, 1, 0}, {1, 1, 1, 1}})));
  // A row without a filling is plain text.
  CHECK(allowed(context.bias)[1].equal(at::ones({4, 4}, at::kLong).tril()));
}

TEST_CASE("positions: a mask of pairs is taken as it is") {
  const Model model = test::tiny_model("glm");
  const at::Tensor pairs = at::ones({1, 1, 3, 3}, at::kLong).tril(1);
  const AttentionContext context =
      attention_context(model, rows({{1, 2, 3}}), pairs);
  CHECK((context.bias == 0).equal(pairs.to(at::kBool)));
  CHECK(at::isfinite(context.bias).all().item<bool>());
  KvCache cache;
  error_of(ErrorKind::kInternal, [&] {
    attention_context(model, rows({{1, 2, 3}}), pairs, {}, &cache);
  });
}

TEST_CASE("positions: a learned table ends the text with a message") {
  const at::NoGradGuard no_grad;
  Model model = blank_model("glm-2021");
  REQUIRE(model.architecture.position_rows == 65);  // of 64 positions, and one
  CHECK_NOTHROW(forward(model, test::random_windows(1, 65, 60)));
  CHECK(error_of(ErrorKind::kInput,
                 [&] { forward(model, test::random_windows(1, 66, 60)); }) ==
        "position 65 is beyond the 65 positions of this model; use shorter "
        "texts");
  // A filling stays at its place, but counts in the second table.
  at::Tensor ids = at::ones({1, 67}, at::kLong);
  ids[0][1] = 61;
  ids[0][2] = 62;
  CHECK(error_of(ErrorKind::kInput, [&] {
          forward(model, ids);
        }).find("position 65 is beyond") == 0);
  CHECK_NOTHROW(forward(model, ids.narrow(1, 0, 66)));
  ForwardOptions given;
  given.positions = rows({{0, -1}});
  CHECK(error_of(ErrorKind::kInput, [&] {
          forward(model, rows({{1, 2}}), given);
        }).find("position -1 is") == 0);
}

TEST_CASE("mask: what may be seen, by hand") {
  const at::Tensor real = rows({{0, 1, 1, 1}, {1, 1, 1, 1}}).to(at::kBool);
  const at::Tensor context = rows({{1, 1, 0, 0}, {0, 0, 0, 0}}).to(at::kBool);
  CHECK(allowed(additive_mask(real, context, 3))
            .equal(at::stack({rows({{0, 1, 0, 0}, {0, 1, 1, 0}, {0, 1, 1, 1}}),
                              rows({{1, 1, 0, 0}, {1, 1, 1, 0}, {1, 1, 1, 1}})},
                             0)));
  // A row of nothing but padding sees itself.
  const at::Tensor nothing = at::zeros({1, 3}, at::kBool);
  CHECK(allowed(additive_mask(nothing, {}, 3))[0].equal(at::eye(3, at::kLong)));
  CHECK(allowed(additive_mask(at::ones({1, 1}, at::kBool), {}, 1))
            .equal(at::ones({1, 1, 1}, at::kLong)));
}

TEST_CASE("rotate: three ways to pair the dims, by hand") {
  AttentionContext context;
  context.cosine = at::tensor({0.0f, -1.0f}).view({1, 1, 2});  // 90 and 180
  context.sine = at::tensor({1.0f, 0.0f}).view({1, 1, 2});     // degrees
  const at::Tensor x = at::tensor({1.0f, 2.0f, 3.0f, 4.0f}).view({1, 1, 1, 4});
  const auto turned = [&](Rotary rotary) {
    return rotate(x, context, rotary).flatten();
  };
  // (1, 2) by 90, (3, 4) by 180.
  CHECK(
      turned(Rotary::kInterleaved).equal(at::tensor({-2.f, 1.f, -3.f, -4.f})));
  // (1, 3) by 90, (2, 4) by 180.
  CHECK(turned(Rotary::kHalf).equal(at::tensor({-3.f, -2.f, 1.f, -4.f})));
  // The first half (1, 2) by the position, the second (3, 4) by the other.
  CHECK(turned(Rotary::kTwoDimensional)
            .equal(at::tensor({-2.f, 1.f, -3.f, -4.f})));
  CHECK(turned(Rotary::kNone).equal(x.flatten()));
}

TEST_CASE("rotate: products depend on the distance alone") {
  for (const char* family : {"glm", "glm4_moe", "chatglm-6b"}) {
    INFO(family);
    const Model model = test::tiny_model(family);
    const Architecture& a = model.architecture;
    const at::Tensor ids = test::random_windows(1, 12);
    const at::Tensor x = at::randn({a.rotary_size});
    const at::Tensor y = at::randn({a.rotary_size});
    const AttentionContext context = attention_context(model, ids);
    const auto all = [&](const at::Tensor& one) {
      return rotate(one.view({1, 1, 1, -1}).expand({1, 1, 12, -1}), context,
                    a.rotary)[0][0];
    };
    const at::Tensor products = at::mm(all(x), all(y).t());
    for (std::int64_t p = 1; p < 12; ++p)
      CHECK(at::allclose(products.diagonal(-p),
                         products.diagonal(-p)[0].expand({12 - p}), 1e-4,
                         1e-4));
    CHECK(at::allclose(all(x).norm(2, 1), x.norm().expand({12})));
  }
}

TEST_CASE("rotate: ChatGLM-6B's frequencies are rounded to half precision") {
  const Model model = test::tiny_model("chatglm-6b");  // heads of 8: 2 + 2
  const at::Tensor given = rows({{100}}).unsqueeze(1).repeat({1, 2, 1});
  const AttentionContext context =
      attention_context(model, rows({{1}}), {}, given);
  const float half = at::tensor({0.01f}).to(at::kHalf).item<float>();
  CHECK(half != 0.01f);
  const auto at_index = [&](std::int64_t i) {
    return context.cosine[0][0][i].item<float>();
  };
  CHECK(at_index(0) == Approx(std::cos(100.0)));
  CHECK(at_index(1) == Approx(std::cos(100.0 * half)));
  CHECK(at_index(3) == Approx(std::cos(100.0 * half)));
}
