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
  const auto with = [](const OptionInfo& option, double value) {
    ConfigNode params = ConfigNode::map();
    params.set(option.name,
               option.type == "number"
                   ? ConfigNode::of(value)
                   : ConfigNode::of(static_cast<std::int64_t>(value)));
    return params;
  };
  const auto in_list = [](const OptionInfo& list, const ConfigNode& entry) {
    ConfigNode params = ConfigNode::map();
    params.set(list.name, ConfigNode::list()).items.push_back(entry);
    return params;
  };
  const auto check = [](const OptionInfo& option, const auto& make) {
    if (!option.range) return;
    CHECK_NOTHROW(make(option.range->low));
    CHECK_NOTHROW(make(option.range->high));
    CHECK_THROWS_AS(make(option.range->high + 1), Error);
  };
  for (const PassInfo& info : pass_catalogue())
    for (const OptionInfo& option : info.options) {
      INFO(info.type << "." << option.name);
      check(option, [&](double value) { info.make(with(option, value)); });
      for (const OptionInfo& field : option.fields) {
        INFO(field.name);
        check(field, [&](double value) {
          info.make(in_list(option, with(field, value)));
        });
      }
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
      const Model shapes = test::planned(info.type, quick(info.type), start);
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
