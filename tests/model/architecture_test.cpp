#include "autoglm/model/architecture.h"

#include "tests/model/golden.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;

namespace {
Json config() { return test::tiny_model().config; }
std::string refused(const Json& json) {
  return error_of(ErrorKind::kInput,
                  [&] { read_architecture(json, "c.json"); });
}
}  // namespace

TEST_CASE("architecture: rope settings are read in both spellings") {
  Json old = config();
  old["rope_theta"] = 5e6;
  old["partial_rotary_factor"] = 1.0;
  CHECK(read_architecture(old, "c").rotary_base == 5e6);
  CHECK(read_architecture(old, "c").rotary_size == 8);
  Json nested = config();
  nested.erase("rope_theta");
  nested.erase("partial_rotary_factor");
  nested["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e8}};
  CHECK(read_architecture(nested, "c").rotary_base == 1e8);
  CHECK(read_architecture(nested, "c").rotary_size == 4);  // half of the head
  nested["rope_parameters"]["partial_rotary_factor"] = 0.75;
  CHECK(read_architecture(nested, "c").rotary_size == 6);
}

TEST_CASE("architecture: what is missing or impossible is named") {
  Json json = config();
  json.erase("hidden_size");
  CHECK(refused(json) == "c.json: hidden_size is missing");
  json = config();
  json["model_type"] = "llama";
  CHECK(refused(json) ==
        "c.json: unsupported model_type llama; supported: glm, chatglm, glm4, "
        "glm4_moe, glm4_moe_lite, glm_moe_dsa");
  json = config();
  json.erase("model_type");
  CHECK(refused(json) == "c.json: model_type is missing");
  json = config();
  json["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}};
  CHECK(refused(json) == "c.json: rope scaling 'yarn' is not supported yet");
  json = config();
  json["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 4.0}};
  CHECK(refused(json) == "c.json: rope scaling 'linear' is not supported yet");
  json = config();
  json["num_key_value_heads"] = 3;
  CHECK(refused(json).find("which is not possible") != std::string::npos);
  json = config();
  json["num_hidden_layers"] = std::int64_t{1} << 40;
  refused(json);
  json["num_hidden_layers"] = -1;
  CHECK(refused(json) ==
        "c.json: num_hidden_layers is -1, which is not possible");
  json = config();
  json["hidden_act"] = "gelu";
  CHECK(refused(json) ==
        "c.json: hidden_act 'gelu' is not supported; a GLM uses silu");
  json["hidden_act"] = 3;
  CHECK(refused(json) == "c.json: hidden_act should be text, but is 3");
  CHECK(refused(Json::array()) == "c.json: a JSON object was expected");
}

TEST_CASE("architecture: an unchanged one leaves every file as it is") {
  for (const std::string& family : test::tiny_families()) {
    const Json json = test::tiny_config(family);
    CHECK(write_architecture(json, read_architecture(json, "c")) == json);
  }
  for (const std::string& name : test::golden_names()) {
    INFO(name);
    const Json json = read_json(test::kGolden / name / "config.json");
    CHECK(write_architecture(json, read_architecture(json, "c")) == json);
  }
}

TEST_CASE("architecture: widths that differ go through per_layer_config") {
  Architecture a = read_architecture(config(), "c");
  a.blocks[1] = {2, 2, 24};
  const Json json = write_architecture(config(), a);
  CHECK(json["intermediate_size"] == 48);
  CHECK(json["per_layer_config"]["1"]["intermediate_size"] == 24);
  CHECK((read_architecture(json, "c").blocks == a.blocks));
  a.blocks[0] = a.blocks[1];
  const Json uniform = write_architecture(json, a);
  CHECK_FALSE(uniform.contains("per_layer_config"));
  CHECK(uniform["num_attention_heads"] == 2);
  CHECK(read_architecture(uniform, "c").uniform());
}

TEST_CASE("architecture: any widths of any family come back") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Json json = test::tiny_config(family);
    const Architecture start = read_architecture(json, "c");
    for (const bool all : {false, true}) {
      Architecture a = start;
      for (std::size_t i = all ? 0 : 1; i < a.blocks.size(); ++i) {
        BlockWidths& w = a.blocks[i];
        w.ffn -= 8;
        const bool groups = w.kv_heads < w.query_heads;
        w.query_heads -= 2;
        if (!groups) w.kv_heads = w.query_heads;
        if (w.shared_ffn > 0) w.shared_ffn = 12;
        if (w.experts > 0) w.experts = 3;
      }
      const Json written = write_architecture(json, a);
      const Architecture again = read_architecture(written, "c");
      CHECK((again.blocks == a.blocks));
      CHECK(again.head_size == a.head_size);
      CHECK(again.value_size == a.value_size);
      CHECK(again.rotary_size == a.rotary_size);
      // And back to the start, without a trace but for the head size, which a
      // file may leave to be divided out.
      Json back = write_architecture(written, start);
      CHECK((read_architecture(back, "c").blocks == start.blocks));
      CHECK_FALSE(back.contains("per_layer_config"));
    }
  }
}

TEST_CASE("architecture: heads that differ between dense and mixture layers") {
  const Json json = test::tiny_config("glm4_moe");
  Architecture a = read_architecture(json, "c");
  CHECK(a.uniform());
  a.blocks[0].query_heads = 2;
  CHECK_FALSE(a.uniform());
  const Json written = write_architecture(json, a);
  CHECK((read_architecture(written, "c").blocks == a.blocks));
  CHECK(written["num_attention_heads"] == 4);
}

TEST_CASE("architecture: a layer's own widths are checked like all others") {
  const auto with = [](const std::string& family, const char* layer,
                       const Json& entry) {
    Json json = test::tiny_config(family);
    json["per_layer_config"][layer] = entry;
    return refused(json);
  };
  CHECK(with("glm", "7", Json::object()) ==
        "c.json: per_layer_config has an entry '7', which is no layer of 2");
  CHECK(with("glm", "x", Json::object()).find("entry 'x'") !=
        std::string::npos);
  CHECK(with("glm", "1", 3).find("entry '1'") != std::string::npos);
  for (const std::int64_t width :
       {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 62})
    CHECK(with("glm", "1", {{"intermediate_size", width}})
              .find("which is not possible") != std::string::npos);
  CHECK(with("glm", "1", {{"num_attention_heads", 3}}).find("3 query heads") !=
        std::string::npos);
  for (const std::int64_t experts : {0, 1, -4})
    CHECK(with("glm4_moe", "1", {{"n_routed_experts", experts}})
              .find("of which a token cannot use 2") != std::string::npos);
  Json json = config();
  json["per_layer_config"] = 3;
  CHECK(refused(json) == "c.json: per_layer_config should be an object");
}

TEST_CASE("architecture: end tokens are a number or a list") {
  Json json = config();
  json["eos_token_id"] = {1, 2};
  CHECK(read_architecture(json, "c").end_ids ==
        std::vector<std::int64_t>{1, 2});
  json["eos_token_id"] = nullptr;
  CHECK(read_architecture(json, "c").end_ids.empty());
  json["eos_token_id"] = "x";
  CHECK(refused(json) ==
        "c.json: eos_token_id should be an integer or a list of them");
}
