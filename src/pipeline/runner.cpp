#include "autoglm/pipeline/runner.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <chrono>
#include <ctime>

#include "autoglm/core/file.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/log.h"
#include "autoglm/core/memory.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/version.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/eval/evaluate.h"
#include "autoglm/eval/latency.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/torch_guard.h"
#include "autoglm/pipeline/constraints.h"
#include "autoglm/pipeline/describe.h"
#include "autoglm/pipeline/text_data.h"
#include "pipeline/workspace.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  gmtime_r(&now, &parts);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return buffer;
}

// A folder that --force may replace: a checkpoint, or an empty one. Anything
// else was hardly meant.
void check_output(const Recipe& recipe, const RunOptions& options) {
  const fs::path& output = recipe.output;
  if (!fs::exists(output)) return;
  if (!fs::is_directory(output))
    fail(ErrorKind::kConfig,
         fmt::format("the output {} exists and is not a folder",
                     output.string()));
  if (fs::is_empty(output)) return;
  if (fs::exists(recipe.model) && fs::equivalent(output, recipe.model))
    fail(ErrorKind::kConfig, "the output folder is the model's own folder");
  if (!fs::exists(output / "config.json"))
    fail(ErrorKind::kConfig,
         fmt::format("the output {} holds something that is not a checkpoint; "
                     "choose another folder",
                     output.string()));
  if (!options.force)
    fail(ErrorKind::kConfig,
         fmt::format("the output {} exists; --force replaces it",
                     output.string()));
}

// Everything of one run that its steps share.
struct Run {
  const Recipe& recipe;
  const RunOptions& options;
  at::Device device;
  Record record;
  Model original;
  TokenWindows evaluation;
  PassContext context;
  std::vector<at::Tensor> original_states;  // over the evaluation windows

  Scorecard score(const Model& model, bool against_original) {
    EvaluateOptions options_;
    options_.device = device;
    options_.original_states = &original_states;
    return evaluate(model, evaluation, against_original ? &original : nullptr,
                    options_);
  }
};

void start_record(Run& run) {
  Record& record = run.record;
  record.autoglm_version = version();
  record.libtorch_version = TORCH_VERSION;
  record.started = utc_now();
  record.status = "failed";
  record.model = run.recipe.model.string();
  record.output = run.recipe.output.string();
  record.config = run.recipe.file.string();
  record.input_fingerprint = checkpoint_fingerprint(run.recipe.model);
  record.device = run.device.str();
  record.cpu = cpu_name();
  record.threads = at::get_num_threads();
  record.seed = run.recipe.seed;
  record.resolved = describe_config(run.recipe.resolved());
}

// The key under which an unfinished run may be resumed.
std::string run_key(const Record& record) {
  Json identity = {{"version", record.autoglm_version},
                   {"libtorch", record.libtorch_version},
                   {"input", record.input_fingerprint},
                   {"device", record.device},
                   {"threads", record.threads},
                   {"resolved", record.resolved}};
  return fingerprint(to_text(identity));
}

void load_data(Run& run) {
  const Recipe& recipe = run.recipe;
  // What a pass learns from should be as varied as the text is; what it is
  // measured on are the same windows everywhere.
  const auto load = [&](const DataSource& source, const char* name, Pick pick) {
    return with_context(
        [&] { return fmt::format("while reading data.{}", name); },
        [&] { return load_windows(run.original, source, pick); });
  };
  const TokenWindows calibration =
      load(recipe.calibration, "calibration", Pick::kSpread);
  run.evaluation = load(recipe.evaluation, "evaluation", Pick::kFirst);
  const bool same = recipe.training.file == recipe.calibration.file &&
                    recipe.training.windows == recipe.calibration.windows &&
                    recipe.training.length == recipe.calibration.length;
  const TokenWindows training =
      same ? calibration : load(recipe.training, "training", Pick::kSpread);
  run.context.calibration = window_ids(calibration);
  run.context.training = window_ids(training);
  run.context.prefix = static_cast<std::int64_t>(calibration.prefix.size());
  run.record.data = {{"calibration", describe_data(calibration)},
                     {"training", describe_data(training)},
                     {"evaluation", describe_data(run.evaluation)}};
}

void run_step(Run& run, const Step& step, Model& model, StepRecord& record) {
  PassContext context = run.context;
  context.seed = derive_seed(run.recipe.seed, step.name);
  context.original = &run.original;
  context.device = run.device;
  context.note = [&](const std::string& name, Json value) {
    record.notes[name] = std::move(value);
  };
  const auto start = Clock::now();
  reset_peak_memory();
  with_context([&] { return fmt::format("in the pass '{}'", step.name); },
               [&] {
                 check_interrupted();
                 step.pass->run(model, context);
                 update_widths(model);
                 verify_model(model);
               });
  record.seconds = seconds_since(start);
  record.notes["peak_memory_bytes"] = peak_memory();
  record.status = "done";
}

void run_steps(Run& run, Model& model, Workspace& workspace) {
  for (const StepRecord& done : workspace.finished()) {
    run.record.steps.push_back(done);
    run.record.steps.back().resumed = true;
  }
  for (std::size_t i = workspace.finished().size(); i < run.recipe.steps.size();
       ++i) {
    const Step& step = run.recipe.steps[i];
    log_info("pass {}/{}: {}", i + 1, run.recipe.steps.size(), step.name);
    StepRecord record;
    record.name = step.name;
    record.type = step.type;
    record.params = describe_config(step.pass->resolved_params());
    record.notes = Json::object();
    try {
      run_step(run, step, model, record);
      record.after = describe_model(model);
      record.after->scorecard = run.score(model, true);
    } catch (const Error& error) {
      record.status =
          error.kind() == ErrorKind::kInterrupted ? "interrupted" : "failed";
      record.error = error.what();
      run.record.steps.push_back(std::move(record));
      throw;
    }
    log_info("pass {}/{}: {} took {}; KL {:.3g}, perplexity {:.4g}, {}", i + 1,
             run.recipe.steps.size(), step.name,
             format_duration(record.seconds),
             record.after->scorecard->divergence->kl,
             record.after->scorecard->perplexity,
             format_bytes(record.after->weight_bytes));
    run.record.steps.push_back(record);
    workspace.save_snapshot(model, std::move(record));
  }
}

LatencyOptions latency_options(const Run& run, std::int64_t batch) {
  LatencyOptions options;
  options.prompt = std::min<std::int64_t>(
      512,
      std::max<std::int64_t>(8, run.original.architecture.max_positions / 2));
  options.generate = std::min<std::int64_t>(64, options.prompt);
  options.batch = batch;
  options.device = run.device;
  options.seed = run.recipe.seed;
  return options;
}

std::vector<MeasuredLatency> measure(Run& run, const Model& model) {
  const std::vector<const Model*> both = {&run.original, &model};
  auto latencies = measure_latency(both, latency_options(run, 1));
  run.record.before.latency = latencies[0];
  run.record.after->latency = latencies[1];
  std::vector<MeasuredLatency> out;
  for (const Constraint& constraint : run.recipe.constraints) {
    if (constraint.measure != "latency") continue;
    const auto measured =
        constraint.batch == 1
            ? latencies
            : measure_latency(both, latency_options(run, constraint.batch));
    const auto phase = [&](const Latency& latency) {
      return constraint.phase == "decode" ? latency.decode.median_ms
                                          : latency.prefill.median_ms;
    };
    out.push_back({phase(measured[0]), phase(measured[1])});
  }
  return out;
}

// Writes the record of a run that stopped beside its snapshots.
void keep_failure(Run& run, const Workspace& workspace, const Error& error,
                  Clock::time_point start) {
  if (workspace.finished().empty()) return;
  run.record.status =
      error.kind() == ErrorKind::kInterrupted ? "interrupted" : "failed";
  run.record.error = error.what();
  run.record.seconds = seconds_since(start);
  try {
    write_file_atomically(workspace.folder() / "record.json",
                          to_text(to_json(run.record)));
  } catch (const Error& second) {
    log_warning("the record of this run could not be kept: {}", second.what());
  }
  log_info(
      "{} of {} passes are kept in {}; the same command goes on from there",
      workspace.finished().size(), run.recipe.steps.size(),
      workspace.folder().string());
}

void write_output(Run& run, const Model& model, Workspace& workspace,
                  Clock::time_point start) {
  StagedFolder staged(run.recipe.output, workspace.staging());
  run.record.after = describe_model(model);
  run.record.after->scorecard = run.record.steps.back().after->scorecard;
  write_checkpoint(model, staged.path());
  run.record.after->disk_bytes = checkpoint_bytes(staged.path());
  const auto latencies = measure(run, model);
  run.record.constraints =
      check_constraints(run.recipe.constraints, run.record, latencies);
  run.record.status = "done";
  for (const ConstraintRecord& constraint : run.record.constraints)
    if (!constraint.met) run.record.status = "gate not met";
  run.record.seconds = seconds_since(start);
  const fs::path notes = staged.path() / "autoglm";
  fs::create_directories(notes);
  write_file_atomically(notes / "resolved.yaml",
                        to_yaml(run.recipe.resolved()));
  write_file_atomically(notes / "record.json", to_text(to_json(run.record)));
  run.options.finish(run.record, staged.path());
  staged.commit();
}

void run_all(Run& run, Clock::time_point start) {
  const Recipe& recipe = run.recipe;
  guard_torch([&] { plan_recipe(recipe, run.original); });
  Workspace workspace(recipe.output, run_key(run.record), run.options.fresh);
  const auto work = [&] {
    load_data(run);
    run.record.before = describe_model(run.original);
    run.record.before.disk_bytes = checkpoint_bytes(recipe.model);
    run.record.before.scorecard = run.score(run.original, false);
    Model model = run.original;
    if (!workspace.finished().empty()) {
      log_info(
          "going on after pass {} of an unfinished run (--fresh starts "
          "anew)",
          workspace.finished().size());
      model = workspace.load_snapshot(recipe.model);
      model.architecture.blank = run.original.architecture.blank;
    }
    run_steps(run, model, workspace);
    write_output(run, model, workspace, start);
    workspace.discard();
  };
  try {
    guard_torch(work);
  } catch (const Error& error) {
    keep_failure(run, workspace, error, start);
    throw;
  }
}

}  // namespace

Plan plan_recipe(const Recipe& recipe, const Model& model) {
  Plan plan;
  Model shapes = to_device(model, at::kMeta);  // without data
  plan.before = footprint(shapes);
  for (const Step& step : recipe.steps) {
    with_context([&] { return fmt::format("in the pass '{}'", step.name); },
                 [&] { step.pass->plan(shapes); });
    update_widths(shapes);
    plan.steps.push_back({step.name, footprint(shapes)});
  }
  return plan;
}

Record run_recipe(const Recipe& recipe, const RunOptions& options) {
  const auto start = Clock::now();
  check_output(recipe, options);
  Run run{recipe, options, choose_device(recipe.device), {}, {}, {}, {}, {}};
  run.original = load_model(recipe.model);
  start_record(run);
  run_all(run, start);
  return run.record;
}

}  // namespace autoglm
