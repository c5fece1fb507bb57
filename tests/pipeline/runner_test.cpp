#include "autoglm/pipeline/runner.h"

#include <map>

#include "autoglm/core/file.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/log.h"
#include "autoglm/model/checkpoint.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;
const fs::path kSource = AUTOGLM_SOURCE_DIR;

// Prune, then round to 4 bits, on little data: seconds, not minutes.
Recipe small_recipe(const TemporaryFolder& folder, const std::string& output,
                    const std::string& more = "") {
  set_log_level(LogLevel::kError);
  write_file_atomically(
      folder / "r.yaml",
      "model: " + (kSource / "examples/glm-books").string() +
          "\noutput: " + (folder / output).string() +
          "\nseed: 5\n"
          "data:\n"
          "  calibration: {windows: 8, length: 64}\n"
          "  evaluation: {windows: 4, length: 64}\n"
          "  training: {windows: 8, length: 64}\n"
          "compression:\n"
          "  - {type: structured_pruning, params: {sparsity_ratio: 0.4}}\n"
          "  - {type: quantization, params: {bits: 4, group_size: 64,"
          " method: rtn}}\n" +
          more);
  return read_recipe(folder / "r.yaml");
}

// Every file of the checkpoint itself; autoglm/ holds times and paths.
std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file())
      out[entry.path().filename()] = read_file(entry.path());
  return out;
}

}  // namespace

TEST_CASE("runner: writes checkpoint, record and resolved configuration") {
  const TemporaryFolder folder;
  const Recipe recipe = small_recipe(folder, "out");
  bool finished = false;
  RunOptions options;
  options.finish = [&](const Record& record, const fs::path& staged) {
    finished = true;
    CHECK(record.status == "done");
    CHECK(fs::exists(staged / "model.safetensors"));
    CHECK_FALSE(fs::exists(folder / "out"));
  };
  const Record record = run_recipe(recipe, options);
  CHECK(finished);
  REQUIRE(record.steps.size() == 2);
  CHECK(record.after->weight_bytes < record.before.weight_bytes / 3);
  CHECK(record.after->scorecard->divergence->kl > 0);
  CHECK(fs::exists(folder / "out" / "tokenizer.json"));
  CHECK(read_file(folder / "out" / "autoglm" / "resolved.yaml") ==
        to_yaml(recipe.resolved()));
  const Record read = record_from_json(
      read_json(folder / "out" / "autoglm" / "record.json"), "record.json");
  CHECK(read.after->weight_bytes == record.after->weight_bytes);
  CHECK_FALSE(fs::exists(folder / "out.partial"));
}

TEST_CASE("runner: the plan predicts the sizes without the data") {
  const TemporaryFolder folder;
  const Recipe recipe = small_recipe(folder, "out");
  const Record record = run_recipe(recipe, {});
  const Plan plan = plan_recipe(recipe, read_checkpoint(recipe.model));
  REQUIRE(plan.steps.size() == 2);
  CHECK(plan.before.total().bytes == record.before.weight_bytes);
  CHECK(plan.steps[1].after.total().bytes == record.after->weight_bytes);
}

TEST_CASE("runner: interrupted and resumed gives the same files") {
  const TemporaryFolder folder;
  run_recipe(small_recipe(folder, "straight"), {});

  // Ctrl-C in the second pass: the first one is kept.
  const Recipe recipe = small_recipe(folder, "out");
  RunOptions stop;
  stop.finish = [](const Record&, const fs::path&) {
    fail(ErrorKind::kInterrupted, "interrupted");
  };
  error_of(ErrorKind::kInterrupted, [&] { run_recipe(recipe, stop); });
  CHECK_FALSE(fs::exists(folder / "out"));
  CHECK(fs::exists(folder / "out.partial" / "state.json"));
  CHECK_FALSE(fs::exists(folder / "out.partial" / "checkpoint"));

  const Record record = run_recipe(recipe, {});
  CHECK(record.steps[0].resumed);
  CHECK_FALSE(fs::exists(folder / "out.partial"));
  CHECK(files_of(folder / "out") == files_of(folder / "straight"));
}

TEST_CASE("runner: an interrupt before the first pass leaves nothing") {
  const TemporaryFolder folder;
  const Recipe recipe = small_recipe(folder, "out");
  set_interrupted(true);
  error_of(ErrorKind::kInterrupted, [&] { run_recipe(recipe, {}); });
  set_interrupted(false);
  CHECK_FALSE(fs::exists(folder / "out"));
  CHECK_FALSE(fs::exists(folder / "out.partial"));
}

TEST_CASE("runner: an existing output is kept unless --force is given") {
  const TemporaryFolder folder;
  const Recipe recipe = small_recipe(folder, "out");
  fs::create_directory(folder / "out");
  write_file_atomically(folder / "out" / "diary.txt", "mine");
  RunOptions force;
  force.force = true;
  const std::string text =
      error_of(ErrorKind::kConfig, [&] { run_recipe(recipe, force); });
  CHECK(text.find("holds something that is not a checkpoint") !=
        std::string::npos);
  write_file_atomically(folder / "out" / "config.json", "{}");
  CHECK(error_of(ErrorKind::kConfig, [&] {
          run_recipe(recipe, {});
        }).find("--force replaces it") != std::string::npos);
  CHECK(read_file(folder / "out" / "diary.txt") == "mine");
  run_recipe(recipe, force);
  CHECK_FALSE(fs::exists(folder / "out" / "diary.txt"));
}

TEST_CASE("runner: a gate that is not met is recorded with its value") {
  const TemporaryFolder folder;
  const Recipe recipe =
      small_recipe(folder, "out",
                   "constraints: {kl: {max: 1e-9}, size: {max_ratio: 0.5}}\n");
  const Record record = run_recipe(recipe, {});
  CHECK(record.status == "gate not met");
  REQUIRE(record.constraints.size() == 2);
  CHECK_FALSE(record.constraints[0].met);
  CHECK(record.constraints[0].value > 1e-9);
  CHECK(record.constraints[1].met);
  CHECK(fs::exists(folder / "out" / "config.json"));
}
