// autoglm sensitivity: what a model loses with each of its blocks and parts.
#include <ATen/core/grad_mode.h>

#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/eval/evaluate.h"
#include "autoglm/passes/layer_sensitivity.h"
#include "autoglm/pipeline/text_data.h"
#include "autoglm/report/report.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, data, output;
  std::int64_t windows = 16;
  std::int64_t length = 256;
  double threshold = 0.05;
};

std::string number(double value) { return fmt::format("{:.3e}", value); }

std::string number(const std::optional<double>& value) {
  return value ? number(*value) : "";
}

std::string table_of(const SensitivityRecord& record) {
  TextTable table({"layer", "part", "parameters", "|w g|", "1 - cos", "removed",
                   "cut", "4 bits", "trend", "redundant"});
  const auto mark = [](bool redundant) { return redundant ? "yes" : ""; };
  for (const BlockSensitivity& block : record.blocks) {
    const std::string layer = std::to_string(block.layer);
    std::uint64_t parameters = 0;
    for (const PartSensitivity& part : block.parts) {
      parameters += part.parameters;
      table.add_row(
          {layer, part.part, format_count(part.parameters), number(part.taylor),
           number(part.influence), number(part.removed), number(part.cut),
           number(part.four_bits), number(part.trend), mark(part.redundant)});
    }
    table.add_row({layer, "both", format_count(parameters), "",
                   number(block.influence), number(block.removed), "", "",
                   number(block.trend), mark(block.redundant)});
  }
  return table.text();
}

std::string text_of(const SensitivityRecord& record) {
  return fmt::format(
      "{}: {} windows of {} tokens of {}, loss {:.4f}\n"
      "removed, cut, 4 bits: KL from the whole model in nats; trend: removed, "
      "less the mean of the layers beside it;\nredundant: removed is below "
      "{:g}\n\n{}",
      record.model, record.windows, record.length, record.data, record.loss,
      record.threshold, table_of(record));
}

void sensitivity(const Options& options, const Session& session) {
  session.begin();
  const at::Device device = choose_device(session.device);
  const Model model = load_model(options.model);
  const TokenWindows windows =
      load_windows(model,
                   {options.data.empty() ? shipped_text("calibration")
                                         : fs::path(options.data),
                    options.windows, options.length},
                   Pick::kSpread);
  SensitivityRecord record;
  record.model = options.model;
  record.data = windows.source;
  record.windows = windows.count();
  record.length = windows.length;
  record.threshold = options.threshold;
  measure_layers(to_device(model, device), window_ids(windows).to(device),
                 static_cast<std::int64_t>(windows.prefix.size()), record);
  if (!options.output.empty()) {
    const fs::path folder = options.output;
    std::error_code error;
    fs::create_directories(folder, error);
    if (error)
      fail(ErrorKind::kResources, fmt::format("cannot create the folder {}: {}",
                                              options.output, error.message()));
    write_file_atomically(folder / "sensitivity.json",
                          to_text(to_json(record)));
    write_file_atomically(folder / "sensitivity.svg", sensitivity_svg(record));
  }
  if (session.json)
    print_json(to_json(record));
  else
    print(text_of(record));
}

}  // namespace

void add_sensitivity(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "sensitivity",
      "what a model loses with each block and part: removed, cut, in 4 bits");
  auto options = std::make_shared<Options>();
  command->add_option("model", options->model, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command
      ->add_option("--data", options->data,
                   "text (.txt or .jsonl); default: the calibration text that "
                   "comes with autoglm")
      ->type_name("FILE");
  command
      ->add_option("--windows", options->windows,
                   "windows, spread over the text; 0: all that fit")
      ->check(CLI::Range(0, 100000000))
      ->capture_default_str();
  command->add_option("--length", options->length, "text tokens per window")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str();
  command
      ->add_option("--redundant", options->threshold,
                   "mark what costs less than so many nats of KL to remove")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command
      ->add_option("--output", options->output,
                   "also write sensitivity.json and sensitivity.svg there")
      ->type_name("DIR");
  command->callback([options, &session] { sensitivity(*options, session); });
}

}  // namespace autoglm::cli
