#include "autoglm/model/model.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {
std::vector<std::string> select(const std::vector<std::string>& patterns,
                                const std::string& family = "glm") {
  return select_linears(test::tiny_model(family), patterns);
}
using Names = std::vector<std::string>;
}  // namespace

TEST_CASE("names: canonical, stored and alias names select the same") {
  for (const char* pattern :
       {"layers.1.mlp.down", "model.layers.1.mlp.down_proj",
        "model.layers.1.mlp.down_proj.weight", "encoder.block.1.mlp.down",
        "encoder.layers.1.mlp.down_proj"})
    CHECK(select({pattern}) == Names{"layers.1.mlp.down"});
}

TEST_CASE("names: a block's name takes all in it, a star everything") {
  CHECK(select({"encoder.block.0"}).size() == 6);
  CHECK(select({"encoder.block.*"}).size() == 12);
  CHECK(select({"layers.1.*"}).size() == 6);
  CHECK(select({"*"}).size() == 14);
  CHECK(select({"layers.*.mlp.*", "layers.0.mlp.down"}).size() == 4);
  CHECK(select({"embedding", "lm_head"}) == Names{"embedding", "head"});
}

TEST_CASE("names: a pattern that selects nothing names a near one") {
  CHECK(
      test::error_of(ErrorKind::kConfig, [] { select({"encodr.block.*"}); }) ==
      "'encodr.block.*' matches no layer of this model (did you mean "
      "'encoder.block.*'?)");
  CHECK(test::error_of(ErrorKind::kConfig, [] {
          select({"layers.7"});
        }).find("'layers.7' matches no layer") == 0);
}

TEST_CASE("names: every family answers to its own and to the common ones") {
  for (const char* pattern :
       {"layers.1.mlp.down", "transformer.encoder.layers.1.mlp.dense_4h_to_h",
        "encoder.layers.1.mlp.dense_4h_to_h", "encoder.block.1.mlp.down"})
    CHECK(select({pattern}, "chatglm") == Names{"layers.1.mlp.down"});
  CHECK(select({"transformer.output_layer"}, "chatglm") == Names{"head"});
  CHECK(select({"transformer.layers.0.attention.dense"}, "chatglm-6b") ==
        Names{"layers.0.attention.output"});
  CHECK(select({"word_embeddings"}, "glm-2021") == Names{"embedding"});
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = test::tiny_model(family);
    std::size_t inside = 0;
    for (const NamedLinear& linear : named_linears(model)) {
      inside += linear.layer >= 0 ? 1 : 0;
      CHECK(select_linears(model, {linear.name}) == Names{linear.name});
      CHECK(select_linears(model, {linear.checkpoint_name + ".weight"}) ==
            Names{linear.name});
      CHECK_NOTHROW(weight_of(model, linear.name));
    }
    CHECK(select_linears(model, {"encoder.block.*"}).size() == inside);
  }
}

TEST_CASE("names: experts are matrices like all others, routers are not") {
  CHECK(select({"layers.1.mlp.experts.*.down"}, "glm4_moe").size() == 4);
  CHECK(select({"model.layers.1.mlp.experts.2.*"}, "glm4_moe") ==
        Names{"layers.1.mlp.experts.2.gate", "layers.1.mlp.experts.2.up",
              "layers.1.mlp.experts.2.down"});
  CHECK(select({"*.shared_experts.*"}, "glm4_moe").size() == 3);
  CHECK(test::error_of(ErrorKind::kConfig, [] {
          select({"layers.1.mlp.router"}, "glm4_moe");
        }).find("matches no layer") != std::string::npos);
}

TEST_CASE("names: asking for what is not there changes nothing") {
  Model model = test::tiny_model("glm4_moe");
  for (const char* name :
       {"layers.0.mlp.experts.0.down", "layers.1.mlp.experts.4.down",
        "layers.1.mlp.experts.99999999999999999999.down",
        "layers.1.mlp.experts.-1.down", "layers.1.mlp.experts.",
        "layers.1.mlp.down", "layers.2.mlp.down", "layers.x.mlp.down",
        "layers.0", "layers.0.", "side", ""}) {
    INFO(name);
    CHECK(test::error_of(ErrorKind::kInternal, [&] {
            weight_of(model, name);
          }).find("the model has no matrix ") == 0);
  }
  CHECK_FALSE(model.blocks[0].is_mixture());
  CHECK(model.blocks[1].mixture.experts.size() == 4);
  CHECK_NOTHROW(verify_model(model));
}
