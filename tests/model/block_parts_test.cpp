#include "autoglm/model/block_parts.h"

#include <map>
#include <set>

#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

using Names = std::map<std::string, std::string>;

// Everything in block 1 of a tiny model: canonical name -> the checkpoint's.
Names checkpoint_names(const std::string& family) {
  const Model model = test::tiny_model(family);
  const FamilyTable& table = *model.architecture.family;
  Names out;
  visit_block(
      model.blocks[1],
      [&](const std::string& name, const Linear&) {
        out[name] = checkpoint_linear_name(table, name);
      },
      [&](const std::string& name, const at::Tensor&) {
        out[name] = checkpoint_tensor_name(table, name);
      });
  return out;
}

Names with(Names first, const Names& more) {
  first.insert(more.begin(), more.end());
  return first;
}

// As published; reference and sources in docs/families.md.
const Names kNorms = {
    {"input_norm.weight", "input_layernorm.weight"},
    {"middle_norm.weight", "post_attention_layernorm.weight"},
};
const Names kOf2021 =
    with(kNorms, {{"input_norm.bias", "input_layernorm.bias"},
                  {"middle_norm.bias", "post_attention_layernorm.bias"},
                  {"attention.query_key_value", "attention.query_key_value"},
                  {"attention.output", "attention.dense"},
                  {"mlp.up", "mlp.dense_h_to_4h"},
                  {"mlp.down", "mlp.dense_4h_to_h"}});
const Names kGrouped = with(kNorms, {{"attention.query", "self_attn.q_proj"},
                                     {"attention.key", "self_attn.k_proj"},
                                     {"attention.value", "self_attn.v_proj"},
                                     {"attention.output", "self_attn.o_proj"}});
const Names kGlm = with(kGrouped, {{"mlp.gate_up", "mlp.gate_up_proj"},
                                   {"mlp.down", "mlp.down_proj"}});
const Names kLatent = with(
    kNorms,
    {{"attention.query_a", "self_attn.q_a_proj"},
     {"attention.query_a_norm.weight", "self_attn.q_a_layernorm.weight"},
     {"attention.query_b", "self_attn.q_b_proj"},
     {"attention.key_value_a", "self_attn.kv_a_proj_with_mqa"},
     {"attention.key_value_a_norm.weight", "self_attn.kv_a_layernorm.weight"},
     {"attention.key_value_b", "self_attn.kv_b_proj"},
     {"attention.output", "self_attn.o_proj"}});

Names mixture() {
  Names out = {
      {"mlp.router.weight", "mlp.gate.weight"},
      {"mlp.router.correction_bias", "mlp.gate.e_score_correction_bias"}};
  for (const std::string part : {"gate", "up", "down"}) {
    out["mlp.shared." + part] = "mlp.shared_experts." + part + "_proj";
    for (const std::string e : {"0", "1", "2", "3"})
      out["mlp.experts." + e + "." + part] =
          "mlp.experts." + e + "." + part + "_proj";
  }
  return out;
}

}  // namespace

TEST_CASE("block: names are those of the published checkpoints") {
  CHECK(checkpoint_names("glm-2021") == kOf2021);
  CHECK(checkpoint_names("chatglm-6b") == kOf2021);
  CHECK(checkpoint_names("chatglm") ==
        with(kNorms,
             {{"attention.query_key_value", "self_attention.query_key_value"},
              {"attention.output", "self_attention.dense"},
              {"mlp.gate_up", "mlp.dense_h_to_4h"},
              {"mlp.down", "mlp.dense_4h_to_h"}}));
  CHECK(checkpoint_names("glm") == kGlm);
  CHECK(checkpoint_names("glm4") ==
        with(kGlm, {{"after_attention_norm.weight",
                     "post_self_attn_layernorm.weight"},
                    {"after_mlp_norm.weight", "post_mlp_layernorm.weight"}}));
  CHECK(checkpoint_names("glm4_moe") ==
        with(with(kGrouped, mixture()),
             {{"attention.query_norm.weight", "self_attn.q_norm.weight"},
              {"attention.key_norm.weight", "self_attn.k_norm.weight"}}));
  CHECK(checkpoint_names("glm4_moe_lite") == with(kLatent, mixture()));
  CHECK(
      checkpoint_names("glm_moe_dsa") ==
      with(
          with(kLatent, mixture()),
          {{"attention.indexer.query.weight", "self_attn.indexer.wq_b.weight"},
           {"attention.indexer.key.weight", "self_attn.indexer.wk.weight"},
           {"attention.indexer.key_norm.weight",
            "self_attn.indexer.k_norm.weight"},
           {"attention.indexer.key_norm.bias", "self_attn.indexer.k_norm.bias"},
           {"attention.indexer.head_weights.weight",
            "self_attn.indexer.weights_proj.weight"}}));
}

TEST_CASE("block: prefixes are those of the published checkpoints") {
  const std::map<std::string, std::string> expected = {
      {"glm-2021", "transformer.layers.1."},
      {"chatglm-6b", "transformer.layers.1."},
      {"chatglm", "transformer.encoder.layers.1."},
      {"glm", "model.layers.1."},
      {"glm4", "model.layers.1."},
      {"glm4_moe", "model.layers.1."},
      {"glm4_moe_lite", "model.layers.1."},
      {"glm_moe_dsa", "model.layers.1."}};
  for (const std::string& family : test::tiny_families())
    CHECK(block_prefix(test::tiny_model(family).architecture, 1) ==
          expected.at(family));
}

TEST_CASE("block: a visit meets everything that a block consists of") {
  for (const std::string& family : test::tiny_families())
    for (const std::size_t layer : {std::size_t{0}, std::size_t{1}}) {
      INFO(family << " layer " << layer);
      Model model = test::tiny_model(family);
      Block& block = model.blocks[layer];
      const BlockShapes shapes = block_shapes(model.architecture, layer);
      std::set<std::string> listed, met;
      for (const auto& matrix : shapes.matrices) {
        listed.insert(matrix.name);
        const Linear* linear = find_linear(block, matrix.name);
        REQUIRE(linear != nullptr);
        CHECK(rows(linear->weight) == matrix.out);
        CHECK(columns(linear->weight) == matrix.in);
        CHECK(linear->bias.defined() == matrix.bias);
      }
      for (const auto& other : shapes.others) {
        listed.insert(other.name);
        const at::Tensor* tensor = find_tensor(block, other.name);
        REQUIRE(tensor != nullptr);
        CHECK(tensor->sizes() == at::IntArrayRef(other.shape));
      }
      CHECK(listed.size() == shapes.matrices.size() + shapes.others.size());
      visit_block(
          block,
          [&](const std::string& name, Linear& part) {
            CHECK(met.insert(name).second);
            CHECK(&part == find_linear(block, name));
          },
          [&](const std::string& name, at::Tensor& part) {
            CHECK(met.insert(name).second);
            CHECK(&part == find_tensor(block, name));
          });
      CHECK(met == listed);
    }
}

TEST_CASE("block: widths of a mixture, dense first") {
  const Model model = test::tiny_model("glm4_moe");
  CHECK_FALSE(model.blocks[0].is_mixture());
  CHECK(model.blocks[1].is_mixture());
  CHECK(widths(model.architecture, model.blocks[0]) == BlockWidths{4, 2, 48});
  CHECK(widths(model.architecture, model.blocks[1]) ==
        BlockWidths{4, 2, 24, 4, 24});
}

TEST_CASE("block: unknown names are nowhere") {
  Block block = test::tiny_model("glm4_moe").blocks[1];
  for (const char* name :
       {"", "mlp", "mlp.", "mlp.side", "attention.side", "mlp.experts.",
        "mlp.experts.x.down", "mlp.experts.1", "mlp.experts.1.side",
        "mlp.shared.side", "attention", "down"}) {
    INFO(name);
    CHECK(find_linear(block, name) == nullptr);
  }
  for (const char* name : {"", "input_norm", "side.weight", "mlp.experts"}) {
    INFO(name);
    CHECK(find_tensor(block, name) == nullptr);
  }
  CHECK(test::error_of(ErrorKind::kInternal, [] {
          checkpoint_linear_name(*test::tiny_model("glm").architecture.family,
                                 "mlp.gate");
        }).find("a glm model has no part 'mlp.gate'") == 0);
}
