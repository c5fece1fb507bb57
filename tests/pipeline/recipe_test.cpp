#include "autoglm/pipeline/recipe.h"

#include <filesystem>

#include "autoglm/core/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

const std::filesystem::path kSource = AUTOGLM_SOURCE_DIR;

Recipe parse(const std::string& yaml, RecipeOverrides overrides = {}) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "r.yaml", yaml);
  return read_recipe(folder / "r.yaml", overrides);
}

}  // namespace

TEST_CASE("recipe: the user's example runs as it stands, with two options") {
  RecipeOverrides overrides;
  overrides.model = "m";
  overrides.output = "o";
  const Recipe recipe = read_recipe(kSource / "configs/seed.yaml", overrides);
  CHECK(recipe.model == "m");
  CHECK(recipe.output == "o");
  REQUIRE(recipe.steps.size() == 2);
  CHECK(recipe.steps[0].type == "structured_pruning");
  CHECK(recipe.steps[1].type == "quantization");
  const ConfigNode params = recipe.steps[0].pass->resolved_params();
  CHECK(params.find("sparsity_ratio")->as_double("") == 0.4);
  CHECK(params.find("target_layers")->as_strings("") ==
        std::vector<std::string>{"encoder.block.*"});
}

TEST_CASE("recipe: resolved and read again it is the same") {
  const std::string yaml =
      "model: m\noutput: o\nseed: 7\n"
      "compression: [{type: quantization, params: {bits: 4}},\n"
      "              {type: quantization, name: again}]\n"
      "constraints:\n"
      "  size: {max: 6GB, max_ratio: 0.4}\n"
      "  latency: {max_ms: 68, phase: prefill, batch: 2}\n"
      "  accuracy_retention: {min: 0.983}\n";
  const std::string resolved = to_yaml(parse(yaml).resolved());
  CHECK(to_yaml(parse(resolved).resolved()) == resolved);
  const Recipe again = parse(resolved);
  CHECK(again.seed == 7);
  CHECK(again.steps[1].name == "again");
  CHECK(again.constraints.size() == 3);
  CHECK(again.constraints[0].max == 6e9);
  CHECK(again.constraints[1].phase == "prefill");
}

TEST_CASE("recipe: training text defaults to the whole calibration file") {
  const Recipe recipe = parse(
      "model: m\noutput: o\ncompression: [{type: quantization}]\n"
      "data: {calibration: {windows: 5, length: 32}}");
  CHECK(recipe.calibration.windows == 5);
  CHECK(recipe.training.file == recipe.calibration.file);
  CHECK(recipe.training.windows == 0);
  CHECK(recipe.training.length == 32);
  CHECK(recipe.evaluation.windows == 200);
}

TEST_CASE("recipe: every configuration that ships is accepted") {
  int count = 0;
  RecipeOverrides overrides;
  overrides.model = "m";
  overrides.output = "o";
  std::filesystem::current_path(kSource);  // recipes name examples/...
  for (const auto& entry :
       std::filesystem::directory_iterator(kSource / "configs")) {
    INFO(entry.path().string());
    CHECK_NOTHROW(read_recipe(entry.path(), overrides));
    ++count;
  }
  CHECK(count >= 5);
}

TEST_CASE("recipe: overrides win over the file and are named in errors") {
  RecipeOverrides overrides;
  overrides.assignments = {"compression.0.params.bits=3", "seed=-1"};
  const std::string text = error_of(ErrorKind::kConfig, [&] {
    parse("model: m\noutput: o\ncompression: [{type: quantization}]",
          overrides);
  });
  CHECK(text == "--set seed=-1: seed must not be negative");
}

TEST_CASE(
    "recipe: a constraint without a limit and a wrong phase are refused") {
  const std::string head =
      "model: m\noutput: o\ncompression: [{type: quantization}]\n";
  CHECK(error_of(ErrorKind::kConfig,
                 [&] { parse(head + "constraints: {kl: {}}"); })
            .find("constraints.kl sets no limit; give one of: max") !=
        std::string::npos);
  CHECK(error_of(ErrorKind::kConfig, [&] {
          parse(head + "constraints: {latency: {max_ms: 1, phase: x}}");
        }).find("must be prefill or decode, but is 'x'") != std::string::npos);
  CHECK(error_of(ErrorKind::kConfig, [&] {
          parse(head + "constraints: {kl: {min: 1}}");
        }).find("unknown key 'min' in constraints.kl") != std::string::npos);
}
