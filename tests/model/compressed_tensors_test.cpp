#include <ATen/core/grad_mode.h>

#include "tests/model/checkpoint_files.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;
using autoglm::test::Tensors;

namespace {

Model reread(const Json& config, const Tensors& tensors) {
  const TemporaryFolder folder;
  test::write_files(folder.path(), config, tensors);
  return read_checkpoint(folder.path());
}

// All matrices but two as codes of changing width, group and symmetry.
Model quantized(const std::string& family) {
  Model model = test::tiny_model(family);
  int bits = 2;
  for (const NamedLinear& linear : named_linears(model)) {
    if (linear.name == "layers.0.attention.output") continue;  // stays dense
    Weight& weight = weight_of(model, linear.name);
    const std::int64_t out = rows(weight), in = columns(weight);
    const std::int64_t group = bits % 2 == 0 ? in : 4;
    const at::Tensor codes =
        at::randint(1 << bits, {out, in}, at::kLong).to(at::kByte);
    const at::Tensor scales = (at::rand({out, in / group}) + 0.5) / (1 << bits);
    const at::Tensor zeros =
        at::randint(1 << bits, {out, in / group}, at::kLong).to(at::kByte);
    weight = pack_weight(codes, scales.to(at::kBFloat16),
                         bits % 3 == 0 ? zeros : at::Tensor(), bits, group);
    bits = bits == 8 ? 2 : bits + 1;
  }
  return model;
}

Json scheme(int bits, bool symmetric, std::int64_t group) {
  Json weights = {{"num_bits", bits},
                  {"type", "int"},
                  {"symmetric", symmetric},
                  {"strategy", group > 0 ? "group" : "channel"}};
  if (group > 0) weights["group_size"] = group;
  return weights;
}

Json config_of(const Json& base, const char* format, const Json& weights) {
  Json config = base;
  config["quantization_config"] = {
      {"quant_method", "compressed-tensors"},
      {"format", format},
      {"ignore", {"lm_head"}},
      {"config_groups",
       {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}}};
  return config;
}

const std::string kDown = "model.layers.1.mlp.down_proj";

}  // namespace

TEST_CASE("pack-quantized: written and read, in every form and family") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = quantized(family);
    const TemporaryFolder folder;
    const std::uint64_t written = write_checkpoint(model, folder.path());
    const Model again = read_checkpoint(folder.path());
    CHECK(again.config["quantization_config"]["format"] == "pack-quantized");
    CHECK(again.extra.empty());
    test::check_same_model(model, again);
    const std::uint64_t file =
        std::filesystem::file_size(folder / "model.safetensors");
    CHECK(file - written < 60'000);  // the header alone
    // Once more it is the same file.
    const TemporaryFolder second;
    write_checkpoint(again, second.path());
    CHECK(read_file(second / "model.safetensors") ==
          read_file(folder / "model.safetensors"));
    CHECK(read_file(second / "config.json") ==
          read_file(folder / "config.json"));
  }
}

TEST_CASE("pack-quantized: config.json says it as other loaders read it") {
  Model model = test::tiny_model("glm");
  const auto pack = [&](const char* name, int bits, std::int64_t group,
                        bool symmetric) {
    Weight& weight = weight_of(model, name);
    const std::int64_t out = rows(weight), groups = columns(weight) / group;
    weight = pack_weight(
        at::zeros({out, columns(weight)}, at::kByte),
        at::ones({out, groups}, at::kBFloat16),
        symmetric ? at::Tensor() : at::zeros({out, groups}, at::kByte), bits,
        group);
  };
  pack("layers.0.mlp.gate_up", 8, 32, true);  // whole rows
  pack("layers.1.mlp.gate_up", 8, 32, true);
  pack("layers.1.mlp.down", 4, 16, false);
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  const Json found = read_json(folder / "config.json")["quantization_config"];
  CHECK(found["quant_method"] == "compressed-tensors");
  CHECK(found["quantization_status"] == "compressed");
  const Json& groups = found["config_groups"];
  REQUIRE(groups.size() == 2);
  CHECK(groups["group_0"]["targets"] ==
        Json({"model.layers.0.mlp.gate_up_proj",
              "model.layers.1.mlp.gate_up_proj"}));
  CHECK(groups["group_0"]["weights"] == Json({{"num_bits", 8},
                                              {"type", "int"},
                                              {"symmetric", true},
                                              {"strategy", "channel"},
                                              {"dynamic", false}}));
  CHECK(groups["group_1"]["targets"] ==
        Json::array({"model.layers.1.mlp.down_proj"}));
  CHECK(groups["group_1"]["weights"] == Json({{"num_bits", 4},
                                              {"type", "int"},
                                              {"symmetric", false},
                                              {"strategy", "group"},
                                              {"group_size", 16},
                                              {"dynamic", false}}));
  // All that stayed dense, the head too.
  CHECK(found["ignore"].size() == 4 * 2 + 1 + 1);
  CHECK(found["ignore"].back() == "lm_head");
}

TEST_CASE("pack-quantized: a model made dense again loses the entry") {
  Model model = quantized("glm");
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  model = read_checkpoint(folder.path());
  for (const NamedLinear& linear : named_linears(model)) {
    Weight& weight = weight_of(model, linear.name);
    weight = DenseWeight{to_dense(weight, at::kBFloat16)};
  }
  const TemporaryFolder second;
  write_checkpoint(model, second.path());
  const Model again = read_checkpoint(second.path());
  CHECK_FALSE(again.config.contains("quantization_config"));
  test::check_same_model(model, again);
}

TEST_CASE("int-quantized: a signed byte per code, by hand and by group") {
  const at::NoGradGuard no_grad;
  const Model model = test::tiny_model("glm");
  for (const bool symmetric : {true, false}) {
    INFO("symmetric " << symmetric);
    Tensors tensors = test::tensors_of(model);
    const Json config =
        config_of(model.config, "int-quantized", scheme(8, symmetric, 16));
    // Other modules stay dense: they have no scale.
    at::Tensor codes = at::randint(-128, 128, {32, 48}, at::kChar);
    codes[3][17] = -128;
    const at::Tensor scales = (at::rand({32, 3}) + 0.5).to(at::kBFloat16);
    const at::Tensor zeros = at::randint(-128, 128, {32, 3}, at::kChar);
    tensors[kDown + ".weight"] = codes;
    tensors[kDown + ".weight_scale"] = scales;
    if (!symmetric) tensors[kDown + ".weight_zero_point"] = zeros;
    const Model read = reread(config, tensors);
    CHECK(read.extra.empty());
    const Weight& weight = weight_of(read, "layers.1.mlp.down");
    CHECK(describe(weight) ==
          fmt::format("int8 g16 {}", symmetric ? "symmetric" : "asymmetric"));
    CHECK(describe(weight_of(read, "layers.0.mlp.down")) == "dense bf16");
    const at::Tensor zero = symmetric ? at::zeros({32, 3}) : zeros;
    const auto spread = [](const at::Tensor& t) {
      return t.to(at::kFloat).repeat_interleave(16, 1);
    };
    CHECK(at::equal(to_dense(weight, at::kFloat),
                    (codes.to(at::kFloat) - spread(zero)) * spread(scales)));
    const float by_hand =
        (-128.f - zero[3][1].item<float>()) * scales[3][1].item<float>();
    CHECK(to_dense(weight, at::kFloat)[3][17].item<float>() == by_hand);
    // Written it is pack-quantized, and the same.
    const TemporaryFolder folder;
    write_checkpoint(read, folder.path());
    const Model again = read_checkpoint(folder.path());
    CHECK(again.config["quantization_config"]["format"] == "pack-quantized");
    test::check_same_model(read, again);
  }
}

TEST_CASE("int-quantized: a code beyond its bits is refused") {
  const Model model = test::tiny_model("glm");
  Tensors tensors = test::tensors_of(model);
  const Json config =
      config_of(model.config, "int-quantized", scheme(4, true, 0));
  at::Tensor codes = at::randint(-8, 8, {32, 48}, at::kChar);
  tensors[kDown + ".weight"] = codes;
  tensors[kDown + ".weight_scale"] = at::ones({32, 1}, at::kBFloat16);
  CHECK(describe(weight_of(reread(config, tensors), "layers.1.mlp.down")) ==
        "int4 channel symmetric");
  for (const int wrong : {8, -9, 127}) {
    codes[5][5] = wrong;
    const std::string text =
        error_of(ErrorKind::kInput, [&] { reread(config, tensors); });
    CHECK(text.find("'" + kDown +
                    ".weight' is I8 [32, 48], expected numbers "
                    "of 4 bits") != std::string::npos);
  }
}

TEST_CASE("compressed-tensors: what does not fit is refused by name") {
  const Model model = quantized("glm");
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  const Json config = read_json(folder / "config.json");
  Tensors all = test::stored_tensors(folder.path());
  const auto refused = [&](const std::string& name, const at::Tensor& tensor) {
    Tensors tensors = all;
    if (tensor.defined())
      tensors[name] = tensor;
    else
      tensors.erase(name);
    return error_of(ErrorKind::kInput, [&] { reread(config, tensors); });
  };
  for (const char* end : {".weight_packed", ".weight_scale"}) {
    const std::string name = kDown + end;
    const at::Tensor old = all.at(name);
    CHECK(refused(name, old.narrow(0, 0, 31)).find(name) != std::string::npos);
    CHECK(refused(name, old.narrow(1, 1, old.size(1) - 1)).find(name) !=
          std::string::npos);
    CHECK(refused(name, old.to(at::kLong)).find(name) != std::string::npos);
  }
  CHECK(refused(kDown + ".weight_scale", {}).find(kDown) != std::string::npos);
  CHECK(refused(kDown + ".weight_packed", {}).find(kDown) != std::string::npos);
  CHECK(refused(kDown + ".weight_shape", at::tensor({48L, 32L}, at::kLong))
            .find("does not say [32, 48]") != std::string::npos);
  int zero_points = 0;
  for (const auto& [name, tensor] : all)
    if (name.ends_with(".weight_zero_point")) {
      ++zero_points;
      CHECK(refused(name, {}).find(name) != std::string::npos);
      CHECK(refused(name, tensor.narrow(1, 0, 0)).find(name) !=
            std::string::npos);
    }
  CHECK(zero_points > 2);
}

TEST_CASE("compressed-tensors: other schemes are refused with the reason") {
  const Model model = test::tiny_model("glm");
  const Tensors tensors = test::tensors_of(model);
  const auto refused = [&](const char* format, const Json& weights) {
    return error_of(ErrorKind::kInput, [&] {
      reread(config_of(model.config, format, weights), tensors);
    });
  };
  CHECK(refused("marlin-24", scheme(4, true, 0))
            .find("format marlin-24 is not supported; pack-quantized, "
                  "int-quantized, float-quantized and naive-quantized are") !=
        std::string::npos);
  CHECK(refused("float-quantized", scheme(8, true, 0))
            .find("weights of type int are not supported in the format "
                  "float-quantized") != std::string::npos);
  CHECK(refused("pack-quantized", scheme(9, true, 0))
            .find("num_bits is 9; 2 to 8 are supported") != std::string::npos);
  Json weights = scheme(8, true, 0);
  weights["type"] = "float";
  CHECK(refused("pack-quantized", weights)
            .find("weights of type float are not supported in the format "
                  "pack-quantized") != std::string::npos);
  weights["type"] = 3;
  CHECK(refused("pack-quantized", weights).find("type should be text") !=
        std::string::npos);
  weights = scheme(8, true, 0);
  weights["strategy"] = "block";
  CHECK(refused("pack-quantized", weights)
            .find("the strategy block is not supported for int weights") !=
        std::string::npos);
  weights["strategy"] = "tensor";
  weights["symmetric"] = false;
  CHECK(refused("int-quantized", weights)
            .find("int weights with the strategy tensor have to be "
                  "symmetric") != std::string::npos);
  weights = scheme(4, true, 0);
  weights["type"] = "float";
  CHECK(refused("naive-quantized", weights)
            .find("num_bits is 4; floating point numbers of 8 are supported") !=
        std::string::npos);
  weights = scheme(8, true, 16);
  weights["type"] = "float";
  CHECK(refused("float-quantized", weights)
            .find("the strategy group is not supported for float weights") !=
        std::string::npos);
  weights = scheme(8, true, 16);
  weights["actorder"] = "group";
  CHECK(refused("pack-quantized", weights).find("actorder is not supported") !=
        std::string::npos);
  Json config = config_of(model.config, "pack-quantized", scheme(8, true, 0));
  config["quantization_config"]["config_groups"]["group_0"]
        ["input_activations"] = {{"num_bits", 8}, {"strategy", "group"}};
  CHECK(
      error_of(ErrorKind::kInput, [&] { reread(config, tensors); })
          .find("activations of 8 bits and type int, static per group, are not "
                "supported") != std::string::npos);
}

TEST_CASE("compressed-tensors: whatever a field holds, it is read or refused") {
  const Model model = test::tiny_model("glm");
  const Tensors tensors = test::tensors_of(model);
  const Json base =
      config_of(model.config, "pack-quantized", scheme(4, true, 16));
  const std::vector<Json> values = {
      nullptr, true, "re:(", 3, -1, Json::array({1}), Json::object()};
  int refusals = 0;
  const auto check = [&](const Json::json_pointer& place) {
    for (const Json& value : values) {
      INFO(place.to_string() << " = " << value.dump());
      Json config = base;
      config[place] = value;
      try {
        reread(config, tensors);
      } catch (const Error& error) {
        ++refusals;
        CHECK(error.kind() == ErrorKind::kInput);
      }
    }
  };
  for (const char* place :
       {"", "/quant_method", "/format", "/ignore", "/config_groups",
        "/config_groups/group_0", "/config_groups/group_0/format",
        "/config_groups/group_0/targets", "/config_groups/group_0/weights",
        "/config_groups/group_0/weights/num_bits",
        "/config_groups/group_0/weights/type",
        "/config_groups/group_0/weights/symmetric",
        "/config_groups/group_0/weights/strategy",
        "/config_groups/group_0/weights/group_size",
        "/config_groups/group_0/weights/actorder",
        "/config_groups/group_0/input_activations"})
    check(Json::json_pointer(std::string("/quantization_config") + place));
  CHECK(refusals > 50);
}
