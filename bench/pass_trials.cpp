// Many passes, each alone on the same model, in one process.
//
//   pass_trials CONFIG FOLDER [--threads N] [--latency]
//
// CONFIG is a configuration of `autoglm compress`, except that the passes of
// its list are alternatives instead of a chain (give each a name; all have the
// seed they would have under their type's name). What `compress` would record
// of a pass goes to FOLDER/NAME.json: scorecard, seconds, parameters, widths,
// and with --latency the latencies of both models, in turns. Nothing else is
// written. Names that are there already are left alone, so a stopped run goes
// on where it was. The original runs over the evaluation windows only once.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <string>
#include <vector>

#include "autoglm/core/file.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/evaluate.h"
#include "autoglm/eval/latency.h"
#include "autoglm/pipeline/describe.h"
#include "autoglm/pipeline/recipe.h"
#include "autoglm/pipeline/text_data.h"
#include "command_line.h"

using namespace autoglm;
namespace fs = std::filesystem;

namespace {

class Trials {
 public:
  explicit Trials(const Recipe& recipe)
      : seed_(recipe.seed),
        original_(load_model(recipe.model)),
        evaluation_(load_windows(original_, recipe.evaluation)) {
    const TokenWindows calibration =
        load_windows(original_, recipe.calibration, Pick::kSpread);
    context_.calibration = window_ids(calibration);
    context_.training = context_.calibration;
    context_.prefix = static_cast<std::int64_t>(calibration.prefix.size());
    context_.original = &original_;
  }

  Json run(const Step& step, bool latency);

 private:
  std::uint64_t seed_;
  Model original_;
  TokenWindows evaluation_;
  PassContext context_;
  std::vector<at::Tensor> original_states_;
};

Json Trials::run(const Step& step, bool latency) {
  Model model = original_;
  PassContext context = context_;
  context.seed = derive_seed(seed_, step.type);
  const auto start = std::chrono::steady_clock::now();
  step.pass->run(model, context);
  update_widths(model);
  const std::chrono::duration<double> taken =
      std::chrono::steady_clock::now() - start;
  EvaluateOptions options;
  options.original_states = &original_states_;
  const ModelRecord after = describe_model(model);
  Json out = {
      {"score", to_json(evaluate(model, evaluation_, &original_, options))},
      {"seconds", taken.count()},
      {"parameters", after.parameters},
      {"before", describe_model(original_).parameters}};
  for (const auto& block : after.blocks) {
    out["ffn"].push_back(block.ffn);
    out["heads"].push_back(block.query_heads);
  }
  if (latency) {
    const auto both = measure_latency({&original_, &model}, LatencyOptions());
    out["latency_before"] = to_json(both[0]);
    out["latency"] = to_json(both[1]);
  }
  return out;
}

void run(const std::string& config, const fs::path& folder, bool latency) {
  const Recipe recipe = read_recipe(config);
  Trials trials(recipe);
  fs::create_directories(folder);
  for (const Step& step : recipe.steps) {
    const fs::path file = folder / (step.name + ".json");
    if (fs::exists(file)) continue;
    const Json row = trials.run(step, latency);
    write_file_atomically(file, to_text(row));
    std::printf("%-32s KL %.4f, pass %.0f s\n", step.name.c_str(),
                row["score"]["kl"].get<double>(), row["seconds"].get<double>());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int count, char** words) {
  std::string config, folder;
  int threads = 0;
  bool latency = false;
  CLI::App app("Many passes, each alone on the same model.", "pass_trials");
  app.add_option("CONFIG", config, "alternatives instead of a chain")
      ->required();
  app.add_option("FOLDER", folder, "for a record of each")->required();
  app.add_option("--threads", threads, "CPU threads")
      ->check(CLI::PositiveNumber);
  app.add_flag("--latency", latency, "measure latencies as well");
  return bench::run_program(app, count, words, [&] {
    if (threads > 0) at::set_num_threads(threads);
    run(config, folder, latency);
  });
}
