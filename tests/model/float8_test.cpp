// Weights of 8-bit floating point numbers: rounding, files, broken files.
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "tests/model/checkpoint_files.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;
using autoglm::test::Tensors;

namespace {

const std::string kDown = "model.layers.1.mlp.down_proj";

// All finite e4m3 numbers that are not negative, from their definition.
std::vector<double> float8_numbers() {
  std::vector<double> out;
  for (int exponent = 0; exponent < 16; ++exponent)
    for (int mantissa = 0; mantissa < 8; ++mantissa)
      if (exponent < 15 || mantissa < 7)
        out.push_back(exponent == 0
                          ? std::ldexp(mantissa / 8.0, -6)
                          : std::ldexp(1 + mantissa / 8.0, exponent - 7));
  return out;
}

at::Tensor bytes_of(const at::Tensor& values) { return values.view(at::kByte); }

// All matrices but one.
Model quantized(const std::string& family) {
  Model model = test::tiny_model(family);
  for (const NamedLinear& linear : named_linears(model))
    if (linear.name != "layers.0.attention.output") {
      Weight& weight = weight_of(model, linear.name);
      weight = round_float8(to_dense(weight, at::kFloat), at::kBFloat16);
    }
  return model;
}

// With the fields that others fill in.
Json config_of(const Json& base, const char* strategy) {
  Json config = base;
  config["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                   {"format", "float-quantized"},
                                   {"ignore", {"lm_head"}},
                                   {"kv_cache_scheme", nullptr},
                                   {"config_groups",
                                    {{"group_0",
                                      {{"targets", {"Linear"}},
                                       {"input_activations", nullptr},
                                       {"output_activations", nullptr},
                                       {"weights",
                                        {{"actorder", nullptr},
                                         {"block_structure", nullptr},
                                         {"dynamic", false},
                                         {"group_size", nullptr},
                                         {"num_bits", 8},
                                         {"observer", "minmax"},
                                         {"strategy", strategy},
                                         {"symmetric", true},
                                         {"type", "float"}}}}}}}};
  return config;
}

Model reread(const Json& config, const Tensors& tensors) {
  const TemporaryFolder folder;
  test::write_files(folder.path(), config, tensors);
  return read_checkpoint(folder.path());
}

}  // namespace

TEST_CASE("round_float8: a matrix by hand") {
  const at::Tensor weight = at::tensor({448.0, 17.0, 19.0, 3.3, -0.001, -300.0,
                                        0.0, 0.0, 0.0, 0.0, 0.0, 0.0})
                                .to(at::kFloat)
                                .view({2, 6});
  const Float8Weight w = round_float8(weight, at::kFloat);
  CHECK(at::equal(w.scales, at::tensor({1.f, 1.f}).view({2, 1})));
  // Steps are 2 from 16 on, 1/4 from 2 on, 32 from 256 on; ties go to the even
  // mantissa; below 2^-6 all steps are 2^-9.
  CHECK(at::equal(w.values.to(at::kFloat),
                  at::tensor({448.f, 16.f, 20.f, 3.25f, -0.001953125f, -288.f,
                              0.f, 0.f, 0.f, 0.f, 0.f, 0.f})
                      .view({2, 6})));
}

TEST_CASE("round_float8: no e4m3 number is nearer") {
  const std::vector<double> numbers = float8_numbers();
  REQUIRE(numbers.size() == 127);
  at::manual_seed(3);
  const at::Tensor weight =
      at::randn({20, 40}) * at::exp(2 * at::randn({20, 40}));
  const Float8Weight w = round_float8(weight, at::kHalf);
  const at::Tensor rounded = to_dense(w, at::kDouble);
  for (std::int64_t i = 0; i < 20; ++i) {
    const double scale = w.scales[i][0].item<double>();
    CHECK(scale ==
          Approx(weight[i].abs().max().item<double>() / 448).epsilon(1e-3));
    for (std::int64_t j = 0; j < 40; ++j) {
      const double value = weight[i][j].item<double>();
      double least = INFINITY;
      for (const double number : numbers)
        least = std::min(least, std::abs(std::abs(value) - number * scale));
      const double error = std::abs(value - rounded[i][j].item<double>());
      CHECK(error <= least + 1e-6 * std::abs(value));
    }
  }
}

TEST_CASE("round_float8: rounded scales and rows near nothing stay finite") {
  at::manual_seed(5);
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf, at::kFloat}) {
    const at::Tensor size =
        at::exp(6 * at::randn({400, 1}) - 4).clamp(1e-12, 1e6);
    at::Tensor weight = at::randn({400, 8}) * size;
    weight[0].fill_(1e-30);
    const Float8Weight w = round_float8(weight, dtype);
    CHECK(w.scales.scalar_type() == dtype);
    CHECK((w.scales > 0).all().item<bool>());
    CHECK(at::isfinite(w.values.to(at::kFloat)).all().item<bool>());
  }
}

TEST_CASE("float-quantized: written and read in every family bit for bit") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = quantized(family);
    verify_model(model);
    const TemporaryFolder folder;
    write_checkpoint(model, folder.path());
    const Model again = read_checkpoint(folder.path());
    CHECK(again.extra.empty());
    test::check_same_model(model, again);
    for (const NamedLinear& linear : named_linears(model)) {
      INFO(linear.name);
      const auto* a = std::get_if<Float8Weight>(&weight_of(model, linear.name));
      if (a == nullptr) continue;
      const auto& b = std::get<Float8Weight>(weight_of(again, linear.name));
      CHECK(at::equal(bytes_of(a->values), bytes_of(b.values)));
      CHECK(at::equal(a->scales, b.scales));
      CHECK(a->scales.scalar_type() == b.scales.scalar_type());
    }
    const TemporaryFolder second;
    write_checkpoint(again, second.path());
    for (const char* file : {"model.safetensors", "config.json"})
      CHECK(read_file(second / file) == read_file(folder / file));
  }
}

TEST_CASE("float-quantized: config.json says it as other loaders read it") {
  Model model = test::tiny_model("glm");
  Weight& down = weight_of(model, "layers.1.mlp.down");
  down = round_float8(to_dense(down, at::kFloat), at::kFloat);
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  const Tensors stored = test::stored_tensors(folder.path());
  CHECK(stored.at(kDown + ".weight").scalar_type() == at::kFloat8_e4m3fn);
  CHECK(stored.at(kDown + ".weight_scale").scalar_type() == at::kFloat);
  CHECK(stored.at(kDown + ".weight_scale").sizes() == at::IntArrayRef({32, 1}));
  Json found = read_json(folder / "config.json")["quantization_config"];
  CHECK(found["format"] == "float-quantized");
  CHECK(found["config_groups"] == Json({{"group_0",
                                         {{"targets", Json::array({kDown})},
                                          {"weights",
                                           {{"num_bits", 8},
                                            {"type", "float"},
                                            {"symmetric", true},
                                            {"strategy", "channel"},
                                            {"dynamic", false}}},
                                          {"input_activations", nullptr},
                                          {"output_activations", nullptr}}}}));
  // Beside integer codes every group names its layout.
  weight_of(model, "layers.0.mlp.down") =
      pack_weight(at::zeros({32, 48}, at::kByte),
                  at::ones({32, 3}, at::kBFloat16), {}, 4, 16);
  const TemporaryFolder mixed;
  write_checkpoint(model, mixed.path());
  found = read_json(mixed / "config.json")["quantization_config"];
  CHECK(found["format"] == "mixed-precision");
  CHECK(found["config_groups"]["group_0"]["format"] == "pack-quantized");
  CHECK(found["config_groups"]["group_1"]["format"] == "float-quantized");
  test::check_same_model(model, read_checkpoint(mixed.path()));
}

TEST_CASE("float-quantized: files of others with one scale per row or matrix") {
  const at::NoGradGuard no_grad;
  const Model model = test::tiny_model("glm");
  for (const char* strategy : {"channel", "tensor"}) {
    INFO(strategy);
    Tensors tensors = test::tensors_of(model);
    const at::Tensor values = (at::randn({32, 48}) * 50).to(at::kFloat8_e4m3fn);
    const bool whole = strategy == std::string("tensor");
    const at::Tensor scales =
        whole ? at::full({1}, 0.0123, at::kFloat) : at::rand({32, 1});
    tensors[kDown + ".weight"] = values;
    tensors[kDown + ".weight_scale"] = scales;
    const Model read = reread(config_of(model.config, strategy), tensors);
    CHECK(read.extra.empty());
    const Weight& weight = weight_of(read, "layers.1.mlp.down");
    CHECK(describe(weight) == "fp8 e4m3 channel");
    CHECK(at::equal(to_dense(weight, at::kFloat),
                    values.to(at::kFloat) * scales));
    CHECK(describe(weight_of(read, "layers.0.mlp.down")) == "dense bf16");
    const TemporaryFolder folder;
    write_checkpoint(read, folder.path());
    test::check_same_model(read, read_checkpoint(folder.path()));
  }
}

TEST_CASE("float-quantized: what does not fit is refused by name") {
  const Model model = test::tiny_model("glm");
  Tensors good = test::tensors_of(model);
  good[kDown + ".weight"] = at::zeros({32, 48}).to(at::kFloat8_e4m3fn);
  good[kDown + ".weight_scale"] = at::ones({32, 1});
  const auto refused = [&](const char* end, const at::Tensor& tensor,
                           const std::string& expected) {
    Tensors tensors = good;
    if (tensor.defined())
      tensors[kDown + end] = tensor;
    else
      tensors.erase(kDown + end);
    const std::string text = error_of(ErrorKind::kInput, [&] {
      reread(config_of(model.config, "channel"), tensors);
    });
    INFO(text);
    CHECK(text.find("tensor '" + kDown + expected) != std::string::npos);
  };
  refused(".weight", at::zeros({32, 48}, at::kChar),
          ".weight' is I8 [32, 48], expected F8_E4M3 [32, 48]");
  refused(".weight", at::zeros({32, 47}).to(at::kFloat8_e4m3fn),
          ".weight' is F8_E4M3 [32, 47], expected F8_E4M3 [32, 48]");
  refused(".weight_scale", at::ones({32}),
          ".weight_scale' is F32 [32], expected F32 [32, 1]");
  refused(".weight_scale", at::ones({32, 1}, at::kInt),
          ".weight_scale' is I32 [32, 1], expected a floating point dtype");
  // Without a scale it would be an ordinary weight, which is not of 8 bits.
  refused(".weight_scale", {},
          ".weight' is F8_E4M3; F32, F16 and BF16 weights are supported");
}

TEST_CASE("float-quantized: NaN in a file is told and fails the check") {
  const Model model = test::tiny_model("glm");
  Tensors tensors = test::tensors_of(model);
  at::Tensor values = at::zeros({32, 48}, at::kByte);
  values[3][4] = 0xFF;  // the negative NaN
  tensors[kDown + ".weight"] = values.view(at::kFloat8_e4m3fn);
  tensors[kDown + ".weight_scale"] = at::ones({32, 1});
  Model read;
  const std::string log = test::logged(
      [&] { read = reread(config_of(model.config, "channel"), tensors); });
  CHECK(log.find("tensor '" + kDown + ".weight' contains NaN or infinity") !=
        std::string::npos);
  const TemporaryFolder folder;
  CHECK(error_of(ErrorKind::kNumeric, [&] { verify_model(read); }) ==
        "layers.1.mlp.down contains NaN or infinity");
}
