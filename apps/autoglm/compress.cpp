// autoglm compress and autoglm plan.
#include <memory>

#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/pipeline/runner.h"
#include "autoglm/report/report.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

struct Options {
  std::string config;
  RecipeOverrides overrides;
  bool force = false, resume = false, fresh = false, dry_run = false;
};

void add_recipe_options(CLI::App& command, Options& options) {
  command.add_option("config", options.config, "configuration file (YAML)")
      ->required()
      ->type_name("CONFIG");
  command
      .add_option("--model", options.overrides.model,
                  "checkpoint folder to read")
      ->type_name("DIR");
  command.add_option("--output", options.overrides.output, "folder to write")
      ->type_name("DIR");
  command
      .add_option("--set", options.overrides.assignments,
                  "change a key: a.b=value (may be repeated)")
      ->type_name("KEY=VALUE")
      ->type_size(1)
      ->allow_extra_args(false);
}

Recipe recipe_of(const Options& options, const Session& session) {
  RecipeOverrides overrides = options.overrides;
  if (session.device != "auto") overrides.device = session.device;
  return read_recipe(options.config, overrides);
}

void print_plan(const Recipe& recipe, const Session& session) {
  const Plan plan =
      plan_recipe(recipe, read_checkpoint(recipe.model, ReadDepth::kShapes));
  Json json = Json::array();
  TextTable table({"after", "parameters", "weights", "of the original"});
  const Size before = plan.before.total();
  const auto add = [&](const std::string& name, const Footprint& footprint) {
    const Size size = footprint.total();
    const double share =
        static_cast<double>(size.bytes) / static_cast<double>(before.bytes);
    table.add_row({name, format_count(size.parameters),
                   format_bytes(size.bytes),
                   fmt::format("{:.1f} %", 100 * share)});
    json.push_back({{"step", name},
                    {"parameters", size.parameters},
                    {"weight_bytes", size.bytes}});
  };
  add("(original)", plan.before);
  for (const PlanStep& step : plan.steps) add(step.name, step.after);
  if (session.json)
    print_json(json);
  else
    print(table.text());
}

void compress(const Options& options, Session& session) {
  session.begin();
  const Recipe recipe = recipe_of(options, session);
  if (options.dry_run) return print_plan(recipe, session);
  RunOptions run;
  run.force = options.force;
  run.fresh = options.fresh;
  run.finish = [](const Record&, const std::filesystem::path& folder) {
    write_reports(folder);
  };
  const Record record = run_recipe(recipe, run);
  if (session.json) {
    print_json(to_json(record));
  } else {
    print(report_summary(record));
    for (const ConstraintRecord& c : record.constraints)
      print(fmt::format("constraint {} {}: {} (measured {:.6g})\n", c.measure,
                        c.limit, c.met ? "met" : "NOT MET", c.value));
    print(fmt::format("checkpoint: {}\n", record.output));
    print(fmt::format("report: {}\n",
                      (recipe.output / "autoglm" / "report.html").string()));
  }
  if (record.status != "done") session.exit_code = exit_code(ErrorKind::kGate);
}

}  // namespace

void add_compress(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("compress", "run a chain of compression passes");
  auto options = std::make_shared<Options>();
  add_recipe_options(*command, *options);
  command->add_flag("--force", options->force, "replace an existing output");
  auto* resume =
      command->add_flag("--resume", options->resume,
                        "go on with an unfinished run (the default)");
  command->add_flag("--fresh", options->fresh, "forget an unfinished run")
      ->excludes(resume);
  command->add_flag("--dry-run", options->dry_run,
                    "check everything, print the sizes, write nothing");
  command->callback([options, &session] { compress(*options, session); });
}

void add_plan(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "plan", "the output's size step by step; touches no weight");
  auto options = std::make_shared<Options>();
  add_recipe_options(*command, *options);
  command->callback([options, &session] {
    session.begin();
    print_plan(recipe_of(*options, session), session);
  });
}

}  // namespace autoglm::cli
