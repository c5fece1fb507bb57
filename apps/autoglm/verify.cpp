// autoglm verify: equivalence checks with thresholds; exit 1 if not met.
#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/eval/equivalence.h"
#include "autoglm/eval/evaluate.h"
#include "autoglm/pipeline/text_data.h"
#include "measure.h"
#include "print.h"

namespace autoglm::cli {
namespace {

struct Options {
  std::string model, reference;
  TextOptions text;
  EquivalenceLimits limits;
};

void verify(const Options& options, Session& session) {
  session.begin();
  EvaluateOptions evaluate_options;
  evaluate_options.device = choose_device(session.device);
  const Model model = load_model(options.model);
  const Model reference = load_model(options.reference);
  verify_model(model);
  const TokenWindows windows = text_windows(reference, options.text);
  const Scorecard original =
      evaluate(reference, windows, nullptr, evaluate_options);
  const Scorecard scorecard =
      evaluate(model, windows, &reference, evaluate_options);
  const auto checks = check_equivalence(scorecard, original, options.limits);
  bool all = true;
  TextTable table({"check", "value", "limit", "verdict"});
  for (const EquivalenceCheck& check : checks) {
    all = all && check.passed;
    table.add_row(
        {check.measure, fmt::format("{:.6g}", check.value),
         fmt::format("{} {:g}", check.at_most ? "<=" : ">=", check.limit),
         check.passed ? "passed" : "NOT MET"});
  }
  if (session.json)
    print_json({{"equivalent", all},
                {"checks", to_json(checks)},
                {"scorecard", to_json(scorecard)}});
  else
    print(table.text());
  if (!all) session.exit_code = exit_code(ErrorKind::kGate);
}

}  // namespace

void add_verify(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "verify", "is a checkpoint equivalent to its reference?");
  auto options = std::make_shared<Options>();
  command->add_option("model", options->model, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command->add_option("--reference", options->reference, "the original")
      ->required()
      ->type_name("DIR");
  add_text_options(*command, options->text);
  const auto limit = [&](const char* name, std::optional<double>& value,
                         const char* help) {
    command->add_option(name, value, help)->type_name("NUMBER");
  };
  EquivalenceLimits& limits = options->limits;
  limit("--max-kl", limits.max_kl, "mean KL in nats (default 0.05)");
  limit("--max-kl-p99", limits.max_kl_p99, "99th percentile of KL");
  limit("--min-top1", limits.min_top1_agreement,
        "top-1 agreement (default 0.9)");
  limit("--min-retention", limits.min_accuracy_retention,
        "accuracy retention (default 0.98)");
  limit("--min-cosine", limits.min_cosine, "cosine of the logits");
  limit("--max-l2", limits.max_l2, "L2 distance of the probabilities");
  limit("--max-perplexity-ratio", limits.max_perplexity_ratio,
        "perplexity / the original's");
  command->callback([options, &session] { verify(*options, session); });
}

}  // namespace autoglm::cli
