// Rounded activations: the product, its gradient, files, broken files.
#include <ATen/core/grad_mode.h>

#include "tests/model/checkpoint_files.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;
using autoglm::test::Tensors;

namespace {

const std::string kDown = "model.layers.1.mlp.down_proj";

// int8 [out, in] with one scale per row.
QuantizedWeight int8_weight(const at::Tensor& numbers,
                            const at::Tensor& scales) {
  return pack_weight((numbers.to(at::kInt) + 128).to(at::kByte),
                     scales.view({-1, 1}), {}, 8, numbers.size(1));
}

QuantizedWeight random_int8(std::int64_t out, std::int64_t in) {
  return int8_weight(at::randint(-128, 128, {out, in}, at::kInt),
                     (at::rand({out}) + 0.5).to(at::kBFloat16) / 64);
}

// x rounded as the header says, in plain tensor operations.
at::Tensor rounded(const at::Tensor& x, const Weight& weight) {
  const ActivationScheme scheme = activations(weight);
  const bool float8 = std::holds_alternative<Float8Weight>(weight);
  const double most = float8 ? 448 : 127;
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor step = scheme.dynamic()
                              ? std::get<0>(wide.abs().max(-1, true)) / most
                              : scheme.scale.to(at::kFloat);
  const at::Tensor scaled = (wide / step).clamp(-most, most);
  return (float8 ? scaled.to(at::kFloat8_e4m3fn).to(at::kFloat)
                 : scaled.round()) *
         step;
}

bool near(const at::Tensor& a, const at::Tensor& b, double share) {
  return (a.to(at::kFloat) - b.to(at::kFloat)).abs().max().item<double>() <=
         share * b.abs().max().item<double>();
}

// A weight of every kind that takes activations, with and without a step.
std::vector<Weight> all_kinds(std::int64_t out, std::int64_t in) {
  std::vector<Weight> kinds;
  for (const Weight& weight :
       {Weight(random_int8(out, in)),
        Weight(round_float8(at::randn({out, in}), at::kBFloat16))}) {
    kinds.push_back(with_activations(weight));
    kinds.push_back(
        with_activations(weight, at::full({1}, 0.0173, at::kFloat)));
  }
  return kinds;
}

// Every matrix but the head, in turn of all four kinds.
Model quantized(const std::string& family) {
  Model model = test::tiny_model(family);
  std::size_t turn = 0;
  for (const NamedLinear& linear : named_linears(model)) {
    if (linear.name == "head") continue;
    Weight& weight = weight_of(model, linear.name);
    weight = all_kinds(rows(weight), columns(weight))[turn++ % 4];
  }
  return model;
}

Json config_of(const Json& base, const char* format, const char* type,
               const Json& inputs) {
  Json config = base;
  config["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                   {"format", format},
                                   {"ignore", {"lm_head"}},
                                   {"config_groups",
                                    {{"group_0",
                                      {{"targets", {"Linear"}},
                                       {"weights",
                                        {{"num_bits", 8},
                                         {"type", type},
                                         {"symmetric", true},
                                         {"strategy", "channel"},
                                         {"dynamic", false}}},
                                       {"input_activations", inputs}}}}}};
  return config;
}

const Json kPerToken = {{"actorder", nullptr}, {"block_structure", nullptr},
                        {"dynamic", true},     {"group_size", nullptr},
                        {"num_bits", 8},       {"observer", nullptr},
                        {"strategy", "token"}, {"symmetric", true},
                        {"type", "int"}};
const Json kPerTensor = {{"num_bits", 8},
                         {"type", "int"},
                         {"symmetric", true},
                         {"strategy", "tensor"},
                         {"dynamic", false}};

Model reread(const Json& config, const Tensors& tensors) {
  const TemporaryFolder folder;
  test::write_files(folder.path(), config, tensors);
  return read_checkpoint(folder.path());
}

}  // namespace

TEST_CASE("activations: a product of int8 by hand") {
  const Weight weight = int8_weight(at::tensor({1, 2, -3, 4}).view({2, 2}),
                                    at::tensor({0.5f, 2.f}));
  const at::Tensor x = at::tensor({2.54f, -1.f}).view({1, 2});
  // Steps of 2.54 / 127 = 0.02: codes 127 and -50.
  const at::Tensor dynamic =
      at::tensor({27 * 0.02f * 0.5f, -581 * 0.02f * 2.f}).view({1, 2});
  // Steps of 0.01: codes 127, which is cut off, and -100.
  const at::Tensor given =
      at::tensor({-73 * 0.01f * 0.5f, -781 * 0.01f * 2.f}).view({1, 2});
  const at::Tensor step = at::full({1}, 0.01, at::kFloat);
  for (const std::int64_t rows : {1, 16, 17, 50}) {
    INFO(rows << " rows");
    const at::Tensor many = x.expand({rows, 2});
    CHECK(near(apply_linear(many, with_activations(weight), {}),
               dynamic.expand({rows, 2}), 1e-6));
    CHECK(near(apply_linear(many, with_activations(weight, step), {}),
               given.expand({rows, 2}), 1e-6));
  }
}

TEST_CASE("activations: a product of fp8 by hand") {
  const Float8Weight plain = {
      at::tensor({1.f, 2.f}).view({1, 2}).to(at::kFloat8_e4m3fn),
      at::full({1, 1}, 0.5)};
  // A step of 1: 448 stays, 17 is halfway between 16 and 18 and becomes 16.
  const at::Tensor x = at::tensor({448.f, 17.f}).view({1, 2});
  CHECK(apply_linear(x, with_activations(plain), {}).item<float>() ==
        (448 + 2 * 16) * 0.5f);
  CHECK(apply_linear(x, plain, {}).item<float>() == (448 + 2 * 17) * 0.5f);
}

TEST_CASE("activations: few and many rows of every dtype follow the formula") {
  const at::NoGradGuard no_grad;
  at::manual_seed(11);
  // 1100: sums of products beyond 2^24; 50: not a multiple of anything.
  for (const std::int64_t in : {50, 96, 1100})
    for (const Weight& weight : all_kinds(37, in))
      for (const std::int64_t rows : {1, 16, 17, 64}) {
        INFO(describe(weight) << ", " << rows << " rows of " << in);
        const at::Tensor x = at::randn({2, rows, in});
        const at::Tensor bias = at::randn({37});
        const at::Tensor dense = to_dense(weight, at::kFloat);
        CHECK(near(apply_linear(x, weight, bias),
                   at::linear(rounded(x, weight), dense, bias), 1e-5));
        for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
          const at::Tensor half = x.to(dtype);
          const at::Tensor y = apply_linear(half, weight, bias);
          CHECK(y.scalar_type() == dtype);
          CHECK(near(y, at::linear(rounded(half, weight), dense, bias), 0.01));
        }
      }
}

TEST_CASE("activations: products of whole numbers are exact") {
  const at::NoGradGuard no_grad;
  at::manual_seed(12);
  const at::Tensor numbers = at::randint(-128, 128, {40, 999}, at::kInt);
  const Weight weight =
      with_activations(int8_weight(numbers, at::ones({40})), at::ones({1}));
  const at::Tensor x = at::randint(-127, 128, {33, 999}, at::kInt);
  CHECK(at::equal(
      apply_linear(x.to(at::kFloat), weight, {}),
      at::matmul(x.to(at::kLong), numbers.to(at::kLong).t()).to(at::kFloat)));
}

TEST_CASE("activations: vectors of zeros give the bias") {
  for (const Weight& weight : all_kinds(5, 8))
    for (const std::int64_t rows : {1, 40})
      CHECK(
          at::equal(apply_linear(at::zeros({rows, 8}), weight, at::arange(5.0)),
                    at::arange(5.0).expand({rows, 5})));
}

TEST_CASE("activations: the gradient passes but where a step cuts off") {
  at::manual_seed(13);
  for (const Weight& weight : all_kinds(7, 24)) {
    INFO(describe(weight));
    const at::Tensor x = (at::randn({20, 24}) * 3).requires_grad_(true);
    const at::Tensor y = apply_linear(x, weight, {});
    const at::Tensor dense = to_dense(weight, at::kFloat);
    CHECK(
        near(y.detach(), at::linear(rounded(x.detach(), weight), dense), 1e-5));
    y.sum().backward();
    at::Tensor expected = dense.sum(0).expand({20, 24});
    const ActivationScheme scheme = activations(weight);
    if (!scheme.dynamic()) {
      const double most =
          std::holds_alternative<Float8Weight>(weight) ? 448 : 127;
      expected =
          expected * ((x.detach() / scheme.scale).abs() <= most).to(at::kFloat);
    }
    CHECK(at::allclose(x.grad(), expected, 1e-4, 1e-5));
  }
}

TEST_CASE("activations: names of forms and of what runs") {
  const std::vector<Weight> kinds = all_kinds(8, 32);
  const std::vector<std::string> names = {
      "int8 channel symmetric with int8 inputs",
      "int8 channel symmetric with static int8 inputs",
      "fp8 e4m3 channel with fp8 inputs",
      "fp8 e4m3 channel with static fp8 inputs"};
  for (std::size_t i = 0; i < kinds.size(); ++i)
    CHECK(describe(kinds[i]) == names[i]);
  CHECK(bytes(kinds[0]) == 8 * 32 + 8 * 2);
  CHECK(bytes(kinds[1]) == 8 * 32 + 8 * 2 + 4);
  CHECK(std::string(linear_kernel(kinds[0], 16)).find("packed ") == 0);
  const std::string many = linear_kernel(kinds[0], 17);
  CHECK((many == "int8 gemm" || many == "dequantize + gemm"));
  CHECK(std::string(linear_kernel(kinds[2], 1)) == "dequantize + gemm");
  // Rows of a table are nobody's input.
  const at::Tensor ids = at::tensor({3, 0}, at::kLong);
  for (const Weight& weight : kinds)
    CHECK(at::equal(select_rows(weight, ids, at::kFloat),
                    to_dense(weight, at::kFloat).index_select(0, ids)));
}

TEST_CASE("activations: weights of other forms are refused") {
  const at::Tensor codes = at::zeros({4, 32}, at::kByte);
  const auto refused = [](const Weight& weight) {
    return error_of(ErrorKind::kConfig, [&] { with_activations(weight); });
  };
  const std::string rest =
      " cannot have rounded activations; fp8 and symmetric int8 with one scale "
      "per row can";
  CHECK(refused(DenseWeight{at::zeros({4, 32})}) ==
        "a weight that is dense fp32" + rest);
  CHECK(refused(pack_weight(codes, at::ones({4, 1}), {}, 4, 32)) ==
        "a weight that is int4 channel symmetric" + rest);
  CHECK(refused(pack_weight(codes, at::ones({4, 2}), {}, 8, 16)) ==
        "a weight that is int8 g16 symmetric" + rest);
  const at::Tensor zeros = at::zeros({4, 1}, at::kByte);
  CHECK(refused(pack_weight(codes, at::ones({4, 1}), zeros, 8, 32)) ==
        "a weight that is int8 channel asymmetric" + rest);

  Model model = test::tiny_model("glm");
  QuantizedWeight wrong =
      pack_weight(at::zeros({32, 48}, at::kByte), at::ones({32, 1}), {}, 4, 48);
  wrong.activations.quantized = true;
  weight_of(model, "layers.1.mlp.down") = wrong;
  CHECK(error_of(ErrorKind::kInternal, [&] { verify_model(model); }) ==
        "layers.1.mlp.down is int4 channel symmetric with int8 inputs, which "
        "no kernel multiplies");
  weight_of(model, "layers.1.mlp.down") =
      with_activations(random_int8(32, 48), at::zeros({1}));
  CHECK(error_of(ErrorKind::kNumeric, [&] { verify_model(model); }) ==
        "layers.1.mlp.down has an input scale that is not above 0");
}

TEST_CASE("activations: written and read in every family bit for bit") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = quantized(family);
    verify_model(model);
    const TemporaryFolder folder;
    write_checkpoint(model, folder.path());
    const Model again = read_checkpoint(folder.path());
    CHECK(again.extra.empty());
    CHECK(again.config["quantization_config"]["format"] == "mixed-precision");
    test::check_same_model(model, again);
    for (const NamedLinear& linear : named_linears(model)) {
      INFO(linear.name);
      const auto a = tensors(weight_of(model, linear.name));
      const auto b = tensors(weight_of(again, linear.name));
      REQUIRE(a.size() == b.size());
      for (std::size_t i = 0; i < a.size(); ++i) {
        CHECK(a[i].scalar_type() == b[i].scalar_type());
        CHECK(at::equal(a[i].contiguous().view(at::kByte),
                        b[i].contiguous().view(at::kByte)));
      }
    }
    const TemporaryFolder second;
    write_checkpoint(again, second.path());
    for (const char* file : {"model.safetensors", "config.json"})
      CHECK(read_file(second / file) == read_file(folder / file));
  }
}

TEST_CASE("int-quantized: config.json says activations as others read them") {
  for (const bool dynamic : {true, false}) {
    Model model = test::tiny_model("glm");
    weight_of(model, "layers.1.mlp.down") = with_activations(
        random_int8(32, 48), dynamic ? at::Tensor() : at::full({1}, 0.02));
    const TemporaryFolder folder;
    write_checkpoint(model, folder.path());
    const Json found = read_json(folder / "config.json")["quantization_config"];
    CHECK(found["format"] == "int-quantized");
    const Json& group = found["config_groups"]["group_0"];
    CHECK_FALSE(group.contains("format"));
    CHECK(group["input_activations"] ==
          Json({{"num_bits", 8},
                {"type", "int"},
                {"symmetric", true},
                {"strategy", dynamic ? "token" : "tensor"},
                {"dynamic", dynamic}}));
    const Tensors stored = test::stored_tensors(folder.path());
    CHECK(stored.at(kDown + ".weight").scalar_type() == at::kChar);
    CHECK(stored.at(kDown + ".weight_scale").sizes() ==
          at::IntArrayRef({32, 1}));
    CHECK(stored.count(kDown + ".input_scale") == (dynamic ? 0u : 1u));
    CHECK(stored.count(kDown + ".weight_shape") == 0u);
  }
}

TEST_CASE("int-quantized: files of others with rounded activations") {
  const at::NoGradGuard no_grad;
  const Model model = test::tiny_model("glm");
  Tensors tensors = test::tensors_of(model);
  const at::Tensor numbers = at::randint(-128, 128, {32, 48}, at::kChar);
  const at::Tensor scales = (at::rand({32, 1}) + 0.5).to(at::kBFloat16);
  tensors[kDown + ".weight"] = numbers;
  tensors[kDown + ".weight_scale"] = scales;
  const at::Tensor dense = numbers.to(at::kFloat) * scales.to(at::kFloat);
  const at::Tensor x = at::randn({20, 48});
  const auto check = [&](const Json& inputs, const char* form) {
    const Model read = reread(
        config_of(model.config, "int-quantized", "int", inputs), tensors);
    CHECK(read.extra.empty());
    const Weight& weight = weight_of(read, "layers.1.mlp.down");
    CHECK(describe(weight) == form);
    CHECK(at::equal(to_dense(weight, at::kFloat), dense));
    CHECK(near(apply_linear(x, weight, {}),
               at::linear(rounded(x, weight), dense), 1e-5));
  };
  check(kPerToken, "int8 channel symmetric with int8 inputs");
  tensors[kDown + ".input_scale"] = at::full({1}, 0.03, at::kBFloat16);
  check(kPerTensor, "int8 channel symmetric with static int8 inputs");
}

TEST_CASE("int-quantized: activations that do not fit are refused") {
  const Model model = test::tiny_model("glm");
  Tensors tensors = test::tensors_of(model);
  tensors[kDown + ".weight"] = at::zeros({32, 48}, at::kChar);
  tensors[kDown + ".weight_scale"] = at::ones({32, 1});
  Json config = config_of(model.config, "int-quantized", "int", kPerTensor);
  const auto refused = [&](const std::string& expected) {
    const std::string text =
        error_of(ErrorKind::kInput, [&] { reread(config, tensors); });
    INFO(text);
    CHECK(text.find(expected) != std::string::npos);
  };
  const std::string name = kDown + ".input_scale'";
  refused("tensor '" + name + " is missing");
  tensors[kDown + ".input_scale"] = at::ones({2});
  refused(name + " is F32 [2], expected F32 [1]");
  tensors[kDown + ".input_scale"] = at::zeros({1});
  refused(name + " is F32 [1], expected a number above 0");

  Json& group = config["quantization_config"]["config_groups"]["group_0"];
  const std::string rest =
      ", are not supported; symmetric ones of 8 bits and of the weights' type "
      "are, dynamic per token or static per tensor";
  const auto change = [&](const Json& from, const char* key,
                          const Json& value) {
    group["input_activations"] = from;
    group["input_activations"][key] = value;
  };
  change(kPerToken, "num_bits", 4);
  refused("symmetric activations of 4 bits and type int, dynamic per token" +
          rest);
  change(kPerToken, "type", "float");
  refused("symmetric activations of 8 bits and type float, dynamic per token" +
          rest);
  change(kPerToken, "symmetric", false);
  refused("asymmetric activations of 8 bits and type int, dynamic per token" +
          rest);
  change(kPerTensor, "dynamic", true);
  refused("symmetric activations of 8 bits and type int, dynamic per tensor" +
          rest);
  change(kPerToken, "dynamic", false);
  refused("symmetric activations of 8 bits and type int, static per token" +
          rest);
  group["input_activations"] = "int8";
  refused("input_activations is no object");
  group["input_activations"] = kPerToken;
  group["weights"]["num_bits"] = 4;
  refused(
      "quantized activations are supported with fp8 weights and with "
      "symmetric int8 weights that have one scale per row");
  group["weights"]["num_bits"] = 8;
  group["output_activations"] = kPerToken;
  refused("output_activations are not supported");
}
