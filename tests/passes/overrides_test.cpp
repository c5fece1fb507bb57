#include "passes/quantization/overrides.h"

#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

struct Options {
  std::vector<QuantizationOverride> overrides;
  template <class Field>
  void visit(Field&& field) {
    field("overrides", overrides, "settings for some matrices");
  }
};

std::map<std::string, MatrixOverride> resolve(
    const std::string& entries, const Model& model = test::tiny_model()) {
  const Options options = parse_options<Options>(
      parse_config("overrides: " + entries, "p"), "quantization");
  return resolve_overrides(model, options.overrides);
}

std::string refusal(const std::string& entries) {
  return test::error_of(ErrorKind::kConfig, [&] { resolve(entries); });
}

}  // namespace

TEST_CASE("overrides: the last entry that gives a setting wins") {
  const auto found = resolve(
      "[{layers: [layers.0.*], bits: 8, group_size: 32},"
      " {layers: ['*.down'], bits: 3, method: gptq},"
      " {layers: [layers.1.*], ignore: true},"
      " {layers: [encoder.block.1.mlp.down], ignore: false}]");
  const MatrixOverride& key = found.at("layers.0.attention.key");
  CHECK(key.bits == 8);
  CHECK(key.group_size == 32);
  CHECK_FALSE(key.method.has_value());
  CHECK_FALSE(key.ignore);
  const MatrixOverride& down = found.at("layers.0.mlp.down");
  CHECK(down.bits == 3);
  CHECK(down.group_size == 32);
  CHECK(down.method == "gptq");
  CHECK(found.at("layers.1.attention.key").ignore);
  CHECK_FALSE(found.at("layers.1.mlp.down").ignore);
  CHECK(found.at("layers.1.mlp.down").bits == 3);
}

TEST_CASE("overrides: only what a glob selects is there") {
  CHECK(resolve("[]").empty());
  const auto found = resolve("[{layers: head, bits: 6}]");
  REQUIRE(found.size() == 1);
  CHECK(found.at("head").bits == 6);
  // Without globs it is for everything.
  const Model model = test::tiny_model();
  CHECK(resolve("[{method: rtn}]").size() == named_linears(model).size());
}

TEST_CASE("overrides: experts are selected like all matrices") {
  const auto found = resolve("[{layers: ['*.mlp.experts.*'], bits: 2}]",
                             test::tiny_model("glm4_moe"));
  CHECK(found.size() == 12);  // four experts of three matrices
  CHECK(found.contains("layers.1.mlp.experts.3.down"));
}

TEST_CASE("overrides: what selects or changes nothing is refused") {
  CHECK(refusal("[{bits: 3}, {layers: [layers.9.*], bits: 3}]") ==
        "'layers.9.*' matches no layer of this model (did you mean "
        "'layers.*'?)\n  quantization.overrides[1].layers");
  CHECK(refusal("[{layers: [], bits: 3}]") ==
        "quantization.overrides[0].layers lists no globs");
  CHECK(refusal("[{layers: [layers.0.*]}]") ==
        "quantization.overrides[0] changes nothing; give it bits, group_size, "
        "symmetric, method or ignore");
}

TEST_CASE("overrides: wrong settings are refused where they stand") {
  CHECK(refusal("[{bits: 1}]") ==
        "p:1:20: quantization.overrides[0].bits must lie between 2 and 8, but "
        "is 1");
  CHECK(refusal("[{layer: [head]}]") ==
        "p:1:14: unknown key 'layer' in quantization.overrides[0] (did you "
        "mean 'layers'?)");
  CHECK(refusal("[{method: gptqq}]") ==
        "p:1:22: quantization.overrides[0].method must be one of adaquant, "
        "gptq, mse, rtn, but is 'gptqq' (did you mean 'gptq'?)");
}
