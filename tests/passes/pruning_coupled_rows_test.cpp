// Which rows go together, by hand: 4 query heads of 8, in latent attention of
// 4 + 4 with values of 12.
#include "passes/pruning/coupled_rows.h"
#include "tests/passes/pruning_models.h"
#include "tests/support/catch.h"

using namespace autoglm;

namespace {

using Ranges = std::vector<std::pair<std::int64_t, std::int64_t>>;

at::Tensor joined(const Ranges& ranges) {
  std::vector<at::Tensor> parts;
  for (const auto& [begin, end] : ranges)
    parts.push_back(at::arange(begin, end, at::kLong));
  return at::cat(parts);
}

at::Tensor index(std::vector<std::int64_t> values) {
  return at::tensor(values, at::kLong);
}

// The rows of heads 1 and 2 in block 1.
void check_heads(const Model& model,
                 const std::vector<std::pair<std::string, Ranges>>& expected) {
  const std::vector<Rows> rows =
      head_rows(model.architecture, model.blocks[1], index({1, 2}));
  REQUIRE(rows.size() == expected.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    INFO(rows[i].name);
    CHECK(rows[i].name == expected[i].first);
    CHECK(at::equal(rows[i].rows, joined(expected[i].second)));
  }
}

at::Tensor counted(std::int64_t count) {
  return at::arange(count, at::kFloat).unsqueeze(1);
}

std::vector<float> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<float>(),
          flat.const_data_ptr<float>() + flat.numel()};
}

std::vector<float> rows_left(const Linear& linear) {
  return values(std::get<DenseWeight>(linear.weight).value);
}

}  // namespace

TEST_CASE("coupled rows: a group's keys and values stay whole") {
  check_heads(test::tiny_model("glm"), {{"attention.query", {{8, 24}}}});
  // 32 query rows, then 2 heads of keys and 2 of values.
  check_heads(test::tiny_model("chatglm"),
              {{"attention.query_key_value", {{8, 24}, {32, 64}}}});
}

TEST_CASE("coupled rows: a head's own key and value go with it") {
  const auto models = test::pruning_models();
  check_heads(models.at("glm, a key for each head"),
              {{"attention.query", {{8, 24}}},
               {"attention.key", {{8, 24}}},
               {"attention.value", {{8, 24}}}});
  check_heads(test::tiny_model("glm-2021"),
              {{"attention.query_key_value", {{8, 24}, {40, 56}, {72, 88}}}});
  check_heads(test::tiny_model("chatglm-6b"),
              {{"attention.query_key_value", {{24, 72}}}});
  check_heads(models.at("chatglm, packed head by head"),
              {{"attention.query_key_value", {{24, 72}}}});
}

TEST_CASE("coupled rows: a latent head has rows of its own size per matrix") {
  const Model latent = test::tiny_model("glm4_moe_lite");
  check_heads(latent, {{"attention.query_b", {{8, 24}}},
                       {"attention.key_value_b", {{16, 48}}}});
  check_heads(
      test::pruning_models().at("latent, queries from one matrix"),
      {{"attention.query", {{8, 24}}}, {"attention.key_value_b", {{16, 48}}}});
  CHECK(at::equal(head_columns(latent.architecture, index({0, 3})),
                  joined({{0, 12}, {36, 48}})));
  CHECK(at::equal(
      head_columns(test::tiny_model("glm").architecture, index({0, 3})),
      joined({{0, 8}, {24, 32}})));
}

TEST_CASE("coupled rows: a channel is a row of gate and of up") {
  const Linear down = {DenseWeight{at::zeros({1, 3})}, {}};
  Mlp fused;
  fused.gate_up = {DenseWeight{counted(6)}, counted(6).flatten()};
  fused.down = down;
  keep_channel_rows(fused, index({0, 2}));
  CHECK(rows_left(fused.gate_up) == std::vector<float>{0, 2, 3, 5});
  CHECK(values(fused.gate_up.bias) == std::vector<float>{0, 2, 3, 5});

  Mlp apart;
  apart.gate = {DenseWeight{counted(3)}, {}};
  apart.up = {DenseWeight{counted(3) + 10}, {}};
  apart.down = down;
  keep_channel_rows(apart, index({1}));
  CHECK(rows_left(apart.gate) == std::vector<float>{1});
  CHECK(rows_left(apart.up) == std::vector<float>{11});
  CHECK_FALSE(apart.up.bias.defined());

  Mlp plain;
  plain.up = {DenseWeight{counted(3)}, counted(3).flatten() + 20};
  plain.down = {DenseWeight{at::zeros({1, 3})}, at::ones({1})};
  keep_channel_rows(plain, index({1, 2}));
  CHECK(rows_left(plain.up) == std::vector<float>{1, 2});
  CHECK(values(plain.up.bias) == std::vector<float>{21, 22});
  CHECK(plain.down.bias.size(0) == 1);
}

TEST_CASE("coupled rows: a pick of meta tensors has the shape of a real one") {
  const at::Tensor real = at::ones({4, 3});
  CHECK(pick(real, 1, index({2, 0})).sizes() == at::IntArrayRef({4, 2}));
  const at::Tensor meta =
      pick(real.to(at::kMeta), 1, index({2, 0}).to(at::kMeta));
  CHECK(meta.sizes() == at::IntArrayRef({4, 2}));
  CHECK(meta.is_contiguous());
}
