// autoglm eval: quality of a model, alone or against its original.
#include <memory>
#include <optional>

#include "autoglm/eval/accelerator.h"
#include "autoglm/eval/evaluate.h"
#include "autoglm/pipeline/text_data.h"
#include "measure.h"
#include "print.h"

namespace autoglm::cli {

void add_text_options(CLI::App& command, TextOptions& options) {
  command
      .add_option("--data", options.data,
                  "text (.txt or .jsonl); default: the evaluation text "
                  "that comes with autoglm")
      ->type_name("FILE");
  command.add_option("--windows", options.windows, "windows; 0: all that fit")
      ->check(CLI::Range(0, 100000000))
      ->capture_default_str();
  command.add_option("--length", options.length, "text tokens per window")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str();
}

TokenWindows text_windows(const Model& model, const TextOptions& options) {
  const std::filesystem::path file = options.data.empty()
                                         ? shipped_text("evaluation")
                                         : std::filesystem::path(options.data);
  return load_windows(model, {file, options.windows, options.length});
}

namespace {

struct Options {
  std::string model, reference;
  TextOptions text;
  bool integer = false;
};

void eval(const Options& options, const Session& session) {
  session.begin();
  EvaluateOptions evaluate_options;
  evaluate_options.device = choose_device(session.device);
  if (options.integer) evaluate_options.product = QuantizedProduct::kInteger;
  const Model model = load_model(options.model);
  std::optional<Model> reference;
  if (!options.reference.empty()) reference = load_model(options.reference);
  const TokenWindows windows = text_windows(model, options.text);
  const Scorecard scorecard = evaluate(
      model, windows, reference ? &*reference : nullptr, evaluate_options);
  if (session.json)
    print_json(to_json(scorecard));
  else
    print(scorecard_text(scorecard));
}

}  // namespace

void add_eval(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("eval", "perplexity and distance to a reference");
  auto options = std::make_shared<Options>();
  command->add_option("model", options->model, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command
      ->add_option("--reference", options->reference,
                   "the original checkpoint, for KL, top-1, retention")
      ->type_name("DIR");
  command->add_flag("--integer", options->integer,
                    "products with quantized matrices round activations to 8 "
                    "bits, as generate and bench do (CPU); those of the "
                    "reference do not");
  add_text_options(*command, options->text);
  command->callback([options, &session] { eval(*options, session); });
}

}  // namespace autoglm::cli
