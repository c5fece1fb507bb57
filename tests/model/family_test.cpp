// What config.json says a model is: families, namesakes, variants.
#include "autoglm/model/family.h"

#include "tests/model/golden.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;

namespace {

Architecture architecture_of(const std::string& fixture) {
  return read_architecture(read_json(test::kGolden / fixture / "config.json"),
                           fixture);
}

std::string refused(const Json& json) {
  return error_of(ErrorKind::kInput,
                  [&] { read_architecture(json, "c.json"); });
}

}  // namespace

TEST_CASE("family: every fixture is recognised") {
  const std::map<std::string, std::string> expected = {
      {"glm", "glm"},
      {"glm_edge", "glm"},
      {"glm4", "glm4"},
      {"chatglm2", "chatglm"},
      {"chatglm3", "chatglm"},
      {"chatglm_glm4_9b", "chatglm"},
      {"chatglm_6b", "chatglm-6b"},
      {"glm_10b", "glm-2021"},
      {"glm4_moe", "glm4_moe"},
      {"glm4_moe_air", "glm4_moe"},
      {"glm4_moe_lite", "glm4_moe_lite"},
      {"glm_moe_dsa", "glm_moe_dsa"},
      {"glm_moe_dsa_sparse", "glm_moe_dsa"}};
  REQUIRE(expected.size() == test::golden_names().size());
  for (const std::string& name : test::golden_names())
    CHECK(architecture_of(name).family->name == expected.at(name));
}

TEST_CASE("family: the numbers of the fixtures, read off their files") {
  const Architecture chat = architecture_of("chatglm_glm4_9b");
  CHECK(chat.vocabulary == 320);
  CHECK(chat.layers() == 3);
  CHECK(chat.rotary_base == 5e6);  // 10000 * rope_ratio
  CHECK(chat.rotary_size == 4);
  CHECK(chat.norm_epsilon == 1.5625e-7);
  CHECK(chat.attention_bias);
  CHECK_FALSE(chat.linear_bias);
  CHECK(chat.max_positions == 1024);
  CHECK(chat.end_ids == std::vector<std::int64_t>{310, 316, 318});

  const Architecture first = architecture_of("chatglm_6b");
  CHECK(first.two_dimensional());
  CHECK(first.normed_residual);
  CHECK(first.residual_scale == Approx(7.483314773));
  CHECK(first.layer_norm);
  CHECK(first.linear_bias);
  CHECK(first.qkv == QkvLayout::kPerHead);
  CHECK(first.blocks[0] == BlockWidths{4, 4, 160});
  CHECK(first.blank.start == 304);
  CHECK(first.blank.masks ==
        std::vector<std::vector<std::int64_t>>{{301}, {300}});

  const Architecture old = architecture_of("glm_10b");
  CHECK(old.tied_head);
  CHECK(old.norm_epsilon == 1e-5);
  CHECK(old.rotary == Rotary::kNone);
  CHECK(old.position_rows == 65);
  CHECK(old.block_positions);
  CHECK(old.blocks[2] == BlockWidths{4, 4, 192});  // four times 48
  CHECK_FALSE(old.blank.known());

  const Architecture air = architecture_of("glm4_moe_air");
  CHECK(air.rotary == Rotary::kHalf);
  CHECK_FALSE(air.qk_norm);
  CHECK(air.router.groups == 3);
  CHECK(air.router.kept_groups == 2);
  CHECK(air.router.per_token == 4);
  CHECK(air.blocks[0] == BlockWidths{6, 2, 56});
  CHECK(air.blocks[1] == BlockWidths{6, 2, 16, 12, 32});
  CHECK(architecture_of("glm4_moe").qk_norm);
  CHECK(architecture_of("glm4_moe").next_token_blocks == 1);

  const Architecture sparse = architecture_of("glm_moe_dsa_sparse");
  CHECK(sparse.is_latent());
  CHECK(sparse.is_sparse());
  CHECK(sparse.head_size == 16);
  CHECK(sparse.value_size == 12);
  CHECK(sparse.rotary_size == 8);
  CHECK(sparse.rotary_base == 1e6);
  CHECK(sparse.indexer.fresh == std::vector<bool>{true, false, true});
  CHECK(architecture_of("glm_moe_dsa").indexer.fresh ==
        std::vector<bool>{true, true, true});
  CHECK(architecture_of("glm_edge").tied_head);
  CHECK(architecture_of("glm_edge").rotary_size == 8);  // all of the head
}

TEST_CASE("family: namesakes are told apart by their keys") {
  Json json = test::tiny_config("glm");
  CHECK(read_architecture(json, "c").family->name == "glm");
  json.erase("num_hidden_layers");
  json["num_layers"] = 2;
  json["max_sequence_length"] = 64;
  CHECK(read_architecture(json, "c").family->name == "glm-2021");
  json = test::tiny_config("chatglm");
  CHECK(read_architecture(json, "c").family->name == "chatglm");
  // transformers saves GLM-4-9B's file with both spellings.
  json["num_hidden_layers"] = 2;
  CHECK(read_architecture(json, "c").family->name == "chatglm");
  for (const char* key : {"position_encoding_2d", "inner_hidden_size"}) {
    Json other = test::tiny_config("chatglm");
    other["max_sequence_length"] = 64;
    other[key] = key[0] == 'p' ? Json(true) : Json(48);
    CHECK(read_architecture(other, "c").family->name == "chatglm-6b");
  }
}

TEST_CASE("family: variants of the published code") {
  Json json = test::tiny_config("chatglm");
  json["multi_query_attention"] = false;
  CHECK(read_architecture(json, "c").qkv == QkvLayout::kPerHead);
  CHECK(read_architecture(json, "c").blocks[0].kv_heads == 4);
  json = test::tiny_config("chatglm");
  json["original_rope"] = false;
  CHECK(read_architecture(json, "c").rotary == Rotary::kHalf);
  json = test::tiny_config("chatglm");
  json["add_bias_linear"] = true;
  json["add_qkv_bias"] = false;
  CHECK(read_architecture(json, "c").linear_bias);
  CHECK(read_architecture(json, "c").attention_bias);
  json = test::tiny_config("chatglm");
  json["rmsnorm"] = false;
  CHECK(read_architecture(json, "c").layer_norm);
  json["post_layer_norm"] = false;
  CHECK(refused(json) == "c.json: post_layer_norm false is not supported");
  json = test::tiny_config("chatglm-6b");
  json["position_encoding_2d"] = false;
  CHECK(refused(json) == "c.json: position_encoding_2d false is not supported");
  json = test::tiny_config("glm-2021");
  json["block_position_encoding"] = false;
  CHECK(read_architecture(json, "c").position_rows == 64);
  CHECK_FALSE(read_architecture(json, "c").two_dimensional());
  json["relative_encoding"] = true;
  CHECK(refused(json) == "c.json: relative_encoding true is not supported");
  json = test::tiny_config("glm4_moe_lite");
  json["mlp_layer_types"] = {"sparse", "dense"};
  CHECK(read_architecture(json, "c").blocks[0].experts == 4);
  CHECK(read_architecture(json, "c").blocks[1].experts == 0);
  json["mlp_layer_types"] = {"sparse"};
  CHECK(refused(json) ==
        "c.json: mlp_layer_types should name one kind for each of 2 layers");
}

TEST_CASE("family: impossible mixtures and indexers are refused") {
  const auto with = [](const char* family, const char* key, const Json& value) {
    Json json = test::tiny_config(family);
    json[key] = value;
    return refused(json);
  };
  CHECK(with("glm4_moe", "num_experts_per_tok", 5) ==
        "c.json: 5 of 4 experts in 1 of 1 groups is not possible");
  CHECK(with("glm4_moe", "n_group", 3) ==
        "c.json: 2 of 4 experts in 1 of 3 groups is not possible");
  CHECK(with("glm4_moe", "n_group", 4) ==  // groups of one have no two best
        "c.json: 2 of 4 experts in 1 of 4 groups is not possible");
  CHECK(with("glm4_moe_lite", "kv_lora_rank", nullptr).find("kv_lora_rank") !=
        std::string::npos);
  CHECK(with("glm4_moe_lite", "qk_rope_head_dim", 3) ==
        "c.json: 3 rotary dimensions do not form pairs");
  CHECK(with("glm_moe_dsa", "q_lora_rank", nullptr) ==
        "c.json: q_lora_rank is missing, which the indexer needs");
  CHECK(with("glm_moe_dsa", "indexer_rope_interleave", false) ==
        "c.json: indexer_rope_interleave false is not supported");
  CHECK(with("glm_moe_dsa", "index_head_dim", 2) ==
        "c.json: index_head_dim is smaller than qk_rope_head_dim");
  CHECK(with("glm_moe_dsa", "indexer_types", {"shared", "full"}) ==
        "c.json: indexer_types: layer 0 has no earlier layer to share");
}

TEST_CASE("family: whatever a field holds, it is read or refused") {
  const std::vector<Json> values = {nullptr,
                                    true,
                                    "text",
                                    -1,
                                    0,
                                    1,
                                    2.5,
                                    1e300,
                                    std::int64_t{1} << 62,
                                    Json::array(),
                                    Json::object(),
                                    Json::array({"x"}),
                                    Json::array({-1})};
  int refusals = 0;
  for (const std::string& name : test::golden_names()) {
    const Json config = read_json(test::kGolden / name / "config.json");
    for (const auto& [key, old] : config.items())
      for (const Json& value : values) {
        INFO(name << ": " << key << " = " << value.dump());
        Json changed = config;
        changed[key] = value;
        try {
          const Architecture a = read_architecture(changed, "c.json");
          CHECK(a.layers() >= 1);
          CHECK(a.head_size >= 1);
        } catch (const Error& error) {
          ++refusals;
          CHECK(error.kind() == ErrorKind::kInput);
          CHECK(std::string(error.what()).find("c.json: ") == 0);
        }
      }
  }
  CHECK(refusals > 1000);
}
