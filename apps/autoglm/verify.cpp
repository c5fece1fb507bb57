// autoglm verify: equivalence checks with thresholds; exit 1 if not met.
#include <algorithm>
#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/eval/equivalence.h"
#include "autoglm/pipeline/text_data.h"
#include "measure.h"
#include "print.h"

namespace autoglm::cli {
namespace {

struct Options {
  std::string model, reference, thresholds;
  TextOptions text;
};

// Numbers of models that read a text differently say nothing about each other.
void check_tokenizers(const Model& model, const TokenWindows& windows,
                      const Model& reference,
                      const TokenWindows& reference_windows) {
  const std::string both =
      fmt::format("the tokenizers of {} and {}", model.source.string(),
                  reference.source.string());
  const std::int64_t own = load_tokenizer(model).vocabulary_size();
  const std::int64_t other = load_tokenizer(reference).vocabulary_size();
  if (own != other)
    fail(ErrorKind::kInput,
         fmt::format("{} have {} and {} ids", both, own, other));
  if (windows.prefix != reference_windows.prefix)
    fail(ErrorKind::kInput,
         fmt::format("{} put different tokens before a text ({} and {})", both,
                     fmt::join(windows.prefix, " "),
                     fmt::join(reference_windows.prefix, " ")));
  for (std::size_t i = 0; i < windows.windows.size(); ++i)
    if (i >= reference_windows.windows.size() ||
        windows.windows[i] != reference_windows.windows[i])
      fail(ErrorKind::kInput,
           fmt::format("{} read {} differently, first in window {}", both,
                       windows.source, i));
}

// The reference's, or the model's where the reference has no tokenizer.
TokenWindows common_windows(const Model& model, const Model& reference,
                            const TextOptions& options) {
  const bool own = Tokenizer::exists(model.source);
  const bool other = Tokenizer::exists(reference.source);
  if (own && !other) return text_windows(model, options);
  TokenWindows windows = text_windows(reference, options);
  if (own && other)
    check_tokenizers(model, text_windows(model, options), reference, windows);
  return windows;
}

std::string table_text(const Equivalence& found,
                       const std::vector<EquivalenceCheck>& checks) {
  TextTable table({"part", "cosine", "l2", "top1_agreement", "verdict"});
  const auto add = [&](const std::string& part, double cosine, double l2,
                       const std::string& top1) {
    const bool passed = std::all_of(checks.begin(), checks.end(),
                                    [&](const EquivalenceCheck& check) {
                                      return check.part != part || check.passed;
                                    });
    table.add_row({part, fmt::format("{:.6f}", cosine),
                   fmt::format("{:.3e}", l2), top1,
                   passed ? "passed" : "NOT MET"});
  };
  for (const LayerDivergence& layer : found.layers)
    add(layer.layer, layer.cosine, layer.l2, "");
  const Divergence& d = *found.scorecard.divergence;
  add("logits", d.cosine, d.l2, fmt::format("{:.5f}", d.top1_agreement));
  return table.text();
}

void verify(const Options& options, Session& session) {
  session.begin();
  const EquivalenceLimits limits = options.thresholds.empty()
                                       ? EquivalenceLimits{}
                                       : parse_limits(options.thresholds);
  EvaluateOptions evaluate_options;
  evaluate_options.device = choose_device(session.device);
  const Model model = load_model(options.model);
  const Model reference = load_model(options.reference);
  verify_model(model);
  const std::int64_t own = model.architecture.vocabulary;
  const std::int64_t other = reference.architecture.vocabulary;
  if (own != other)
    fail(
        ErrorKind::kInput,
        fmt::format("{} has a vocabulary of {}, {} one of {}; there is nothing "
                    "to compare",
                    options.model, own, options.reference, other));
  const TokenWindows windows = common_windows(model, reference, options.text);
  Equivalence found =
      compare_models(model, reference, windows, evaluate_options);
  if (limits.max_perplexity_ratio)
    found.reference_perplexity =
        evaluate(reference, windows, nullptr, evaluate_options).perplexity;
  const auto checks = check_equivalence(found, limits);
  const std::vector<std::string> missed = shortfalls(checks);
  if (session.json) {
    print_json({{"equivalent", missed.empty()},
                {"checks", to_json(checks)},
                {"layers", to_json(found.layers)},
                {"left_out", found.left_out},
                {"not_met", missed},
                {"scorecard", to_json(found.scorecard)}});
  } else {
    std::string text = table_text(found, checks);
    if (!found.left_out.empty()) text += found.left_out + "\n";
    for (const std::string& one : missed) text += "NOT MET: " + one + "\n";
    print(text + fmt::format("{} of {} checks met over {} tokens\n",
                             std::count_if(checks.begin(), checks.end(),
                                           [](const EquivalenceCheck& check) {
                                             return check.passed;
                                           }),
                             checks.size(), found.scorecard.tokens));
  }
  if (!missed.empty()) session.exit_code = exit_code(ErrorKind::kGate);
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
  command
      ->add_option("--thresholds", options->thresholds,
                   "measure=number, separated by commas: cosine (at least, "
                   "default 0.995) and l2 (at most, 1e-4) of every layer and "
                   "of the logits; top1 (at least, 1), kl, kl_p99, "
                   "accuracy_retention, perplexity_ratio of the logits")
      ->type_name("LIST");
  add_text_options(*command, options->text);
  command->callback([options, &session] { verify(*options, session); });
}

}  // namespace autoglm::cli
