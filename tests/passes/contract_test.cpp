// What every pass of the catalogue promises.
#include "autoglm/core/log.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/footprint.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace autoglm;
using test::run_pass;

namespace {
// Quick settings where the defaults take long.
std::string quick(const std::string& type) {
  return type == "distillation" ? "{steps: 2}" : "{}";
}
}  // namespace

TEST_CASE("passes: defaults parse and resolve to themselves") {
  for (const PassInfo& info : pass_catalogue()) {
    INFO(info.type);
    const ConfigNode resolved = info.make(ConfigNode())->resolved_params();
    CHECK(resolved.keys().size() == info.options.size());
    CHECK(to_yaml(info.make(resolved)->resolved_params()) == to_yaml(resolved));
    CHECK(find_pass(info.type) == &info);
  }
  CHECK(find_pass("no_such_pass") == nullptr);
}

TEST_CASE("passes: both ends of every range are accepted, beyond is not") {
  for (const PassInfo& info : pass_catalogue())
    for (const OptionInfo& option : info.options) {
      if (!option.range) continue;
      INFO(info.type << "." << option.name);
      const auto with = [&](double value) {
        ConfigNode params = ConfigNode::map();
        params.set(option.name,
                   option.type == "int"
                       ? ConfigNode::of(static_cast<std::int64_t>(value))
                       : ConfigNode::of(value));
        return params;
      };
      CHECK_NOTHROW(info.make(with(option.range->low)));
      CHECK_NOTHROW(info.make(with(option.range->high)));
      CHECK_THROWS_AS(info.make(with(option.range->high + 1)), Error);
    }
}

TEST_CASE("passes: the model they were copied from stays as it was") {
  for (const std::string& family : test::tiny_families())
    for (const PassInfo& info : pass_catalogue()) {
      INFO(family << " " << info.type);
      const Model start = test::tiny_model(family);
      const double before = test::checksum(start);
      run_pass(info.type, quick(info.type), start);
      CHECK(test::checksum(start) == before);
    }
}

TEST_CASE("passes: the result verifies, keeps its dtype and repeats exactly") {
  for (const std::string& family : test::tiny_families())
    for (const PassInfo& info : pass_catalogue()) {
      INFO(family << " " << info.type);
      const Model start = test::tiny_model(family);
      const Model first = run_pass(info.type, quick(info.type), start).model;
      CHECK_NOTHROW(verify_model(first));
      for (const NamedLinear& linear : named_linears(first))
        CHECK(dtype(weight_of(first, linear.name)) == at::kBFloat16);
      const Model second = run_pass(info.type, quick(info.type), start).model;
      CHECK(test::checksum(first) == test::checksum(second));
    }
}

TEST_CASE("passes: the plan predicts the shapes and forms of the run") {
  for (const std::string& family : test::tiny_families())
    for (const PassInfo& info : pass_catalogue()) {
      INFO(family << " " << info.type);
      const Model start = test::tiny_model(family);
      Model shapes = to_device(start, at::kMeta);
      info.make(parse_config(quick(info.type), "p"))->plan(shapes);
      const Model result = run_pass(info.type, quick(info.type), start).model;
      CHECK(footprint(shapes).total().bytes == footprint(result).total().bytes);
      for (const NamedLinear& linear : named_linears(result))
        CHECK(describe(weight_of(shapes, linear.name)) ==
              describe(weight_of(result, linear.name)));
    }
}

TEST_CASE("passes: the result written and read is the same model") {
  for (const std::string& family : test::tiny_families())
    for (const PassInfo& info : pass_catalogue()) {
      INFO(family << " " << info.type);
      const test::TemporaryFolder folder;
      const Model result =
          run_pass(info.type, quick(info.type), test::tiny_model(family)).model;
      write_checkpoint(result, folder.path());
      const Model again = read_checkpoint(folder.path());
      CHECK(test::checksum(again) == test::checksum(result));
      CHECK((again.architecture.blocks == result.architecture.blocks));
    }
}

TEST_CASE("passes: without calibration data they still work or say why not") {
  set_log_level(LogLevel::kOff);
  const Model start = test::tiny_model();
  CHECK_NOTHROW(run_pass("structured_pruning", "{}", start, false));
  CHECK_NOTHROW(run_pass("quantization", "{}", start, false));
  CHECK_THROWS_AS(run_pass("distillation", "{}", start, false), Error);
}
