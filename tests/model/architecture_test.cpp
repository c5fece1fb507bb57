#include "autoglm/model/architecture.h"

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
}

TEST_CASE("architecture: what is missing or impossible is named") {
  Json json = config();
  json.erase("hidden_size");
  CHECK(refused(json) == "c.json: hidden_size is missing");
  json = config();
  json["model_type"] = "llama";
  CHECK(refused(json) ==
        "c.json: unsupported model_type llama; supported: glm, glm4");
  json = config();
  json.erase("num_hidden_layers");
  json["num_layers"] = 2;
  CHECK(refused(json).find("the GLM of 2021") != std::string::npos);
  json = config();
  json["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}};
  CHECK(refused(json) == "c.json: rope scaling 'yarn' is not supported yet");
  json = config();
  json["num_key_value_heads"] = 3;
  CHECK(refused(json).find("which is not possible") != std::string::npos);
  json = config();
  json["num_hidden_layers"] = std::int64_t{1} << 40;
  refused(json);
  json["num_hidden_layers"] = -1;
  refused(json);
}

TEST_CASE("architecture: widths that differ go through per_layer_config") {
  Architecture a = read_architecture(config(), "c");
  CHECK(write_architecture(config(), a) == config());
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

TEST_CASE("architecture: end tokens are a number or a list") {
  Json json = config();
  json["eos_token_id"] = {1, 2};
  CHECK(read_architecture(json, "c").end_ids ==
        std::vector<std::int64_t>{1, 2});
  json["eos_token_id"] = nullptr;
  CHECK(read_architecture(json, "c").end_ids.empty());
}
