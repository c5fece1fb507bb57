// autoglm bench: prefill and decode latency of one model or of two.
#include <memory>
#include <optional>

#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/eval/latency.h"
#include "autoglm/model/checkpoint.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

struct Options {
  std::string model, against;
  std::string dtype = "fp32";
  LatencyOptions latency;
};

void bench(Options options, const Session& session) {
  session.begin();
  options.latency.device = choose_device(session.device);
  options.latency.dtype = options.dtype == "fp32" ? at::kFloat : at::kBFloat16;
  std::vector<std::string> folders = {options.model};
  if (!options.against.empty()) folders.push_back(options.against);
  std::vector<Model> models;
  std::vector<const Model*> pointers;
  for (const std::string& folder : folders)
    models.push_back(read_checkpoint(folder));
  for (const Model& model : models) pointers.push_back(&model);
  const auto latencies = measure_latency(pointers, options.latency);
  if (session.json) {
    Json json = Json::array();
    for (std::size_t i = 0; i < latencies.size(); ++i) {
      json.push_back(to_json(latencies[i]));
      json.back()["model"] = folders[i];
    }
    return print_json(json);
  }
  TextTable table(
      {"model", "phase", "median", "p90", "p99", "GB/s", "of copy", "kernel"});
  for (std::size_t i = 0; i < latencies.size(); ++i)
    for (const LatencyPhase* phase :
         {&latencies[i].prefill, &latencies[i].decode})
      table.add_row({folders[i], phase->phase,
                     fmt::format("{:.3f} ms", phase->median_ms),
                     fmt::format("{:.3f}", phase->p90_ms),
                     fmt::format("{:.3f}", phase->p99_ms),
                     fmt::format("{:.2f}", phase->achieved_gb_s),
                     fmt::format("{:.0f} %", 100 * phase->bandwidth_share),
                     phase->kernel + (phase->simulated ? " (simulated)" : "")});
  const Latency& first = latencies.front();
  print(fmt::format("{}, {}, batch {}, prompt {}, {} tokens generated, copy "
                    "bandwidth {:.1f} GB/s\n",
                    first.device, first.dtype, first.batch, first.prompt,
                    first.generated, first.copy_bandwidth_gb_s) +
        table.text());
}

}  // namespace

void add_bench(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("bench", "prefill and decode latency");
  auto options = std::make_shared<Options>();
  command->add_option("model", options->model, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command
      ->add_option("--against", options->against,
                   "a second checkpoint, measured alternately")
      ->type_name("DIR");
  const auto number = [&](const char* name, std::int64_t& value,
                          const char* help) {
    command->add_option(name, value, help)
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
  };
  number("--prompt", options->latency.prompt, "tokens of the prompt");
  number("--generate", options->latency.generate, "tokens to generate");
  number("--batch", options->latency.batch, "sequences at once");
  number("--repeat", options->latency.repeats, "measured rounds");
  command->add_option("--dtype", options->dtype, "compute type")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  command->callback([options, &session] { bench(*options, session); });
}

}  // namespace autoglm::cli
