// autoglm bench: prefill and decode latency of one model or of two.
#include "bench.h"

#include <memory>
#include <optional>

#include "autoglm/core/error.h"
#include "autoglm/core/memory.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/eval/speed_ratio.h"
#include "autoglm/model/checkpoint.h"
#include "print.h"

namespace autoglm::cli {
namespace {

/// Latencies of all models at one place, in the order of the models.
using Cell = std::vector<Latency>;

Subjects open_subjects(const BenchOptions& options) {
  Subjects out;
  if (options.model.empty() == options.shape.empty())
    fail(ErrorKind::kConfig, "bench takes a checkpoint folder or --shape");
  if (!options.shape.empty()) {
    out.names = {options.shape};
    out.models.push_back(random_model(options.shape, options.random));
  } else {
    out.names = {options.model};
    out.models.push_back(read_checkpoint(options.model));
  }
  if (!options.against.empty()) {
    out.names.push_back(options.against);
    out.models.push_back(read_checkpoint(options.against));
  }
  return out;
}

std::vector<const LatencyPhase*> measured_phases(const Latency& latency) {
  std::vector<const LatencyPhase*> out;
  for (const LatencyPhase* phase : {&latency.prefill, &latency.decode})
    if (phase->samples > 0) out.push_back(phase);
  return out;
}

// Of the first model against the second: above 1 the first is faster. Nothing
// where a model ran without a low-bit kernel.
std::optional<SpeedRatio> ratio(const Cell& cell, std::size_t phase) {
  if (cell.size() < 2) return {};
  const LatencyPhase& first = *measured_phases(cell[0])[phase];
  const LatencyPhase& second = *measured_phases(cell[1])[phase];
  if (first.simulated || second.simulated) return {};
  return speed_ratio(first.rounds_ms, second.rounds_ms);
}

Json memory_json(at::Device device) {
  Json json = {{"peak_rss_bytes", peak_memory()}};
  if (device.is_cuda())
    json["peak_allocated_bytes"] = find_cuda()->peak_memory(device.index());
  return json;
}

Json to_json(const std::vector<Cell>& cells, const Subjects& subjects,
             at::Device device) {
  Json json = Json::array();
  for (const Cell& cell : cells)
    for (std::size_t i = 0; i < cell.size(); ++i) {
      Json entry = autoglm::to_json(cell[i]);
      entry["model"] = subjects.names[i];
      entry.update(memory_json(device));
      if (i == 0) {
        const auto phases = measured_phases(cell[0]);
        for (std::size_t p = 0; p < phases.size(); ++p)
          if (const auto r = ratio(cell, p))
            entry[phases[p]->phase]["speed_against"] = {
                {"ratio", r->ratio}, {"low", r->low}, {"high", r->high}};
      }
      json.push_back(std::move(entry));
    }
  return json;
}

std::string against_text(const std::optional<SpeedRatio>& r) {
  if (!r) return "";
  if (r->low <= 0) return fmt::format("{:.2f}x", r->ratio);
  return fmt::format("{:.3f}x  {:.3f} .. {:.3f}", r->ratio, r->low, r->high);
}

std::string table(const std::vector<Cell>& cells, const Subjects& subjects) {
  const bool two = subjects.names.size() > 1;
  std::vector<std::string> header = {"model",  "phase",  "batch", "tokens",
                                     "median", "p90",    "p99",   "MB",
                                     "GB/s",   "of copy"};
  if (two) header.emplace_back("against, 95 %");
  header.emplace_back("kernel");
  TextTable out(header);
  for (const Cell& cell : cells)
    for (std::size_t p = 0; p < measured_phases(cell[0]).size(); ++p)
      for (std::size_t i = 0; i < cell.size(); ++i) {
        const LatencyPhase& phase = *measured_phases(cell[i])[p];
        std::vector<std::string> row = {
            subjects.names[i],
            phase.phase,
            fmt::format("{}", cell[i].batch),
            fmt::format("{}", cell[i].prompt),
            fmt::format("{:.3f} ms", phase.median_ms),
            fmt::format("{:.3f}", phase.p90_ms),
            fmt::format("{:.3f}", phase.p99_ms),
            fmt::format("{:.1f}",
                        static_cast<double>(phase.bytes_touched) / 1e6),
            fmt::format("{:.2f}", phase.achieved_gb_s),
            fmt::format("{:.0f} %", 100 * phase.bandwidth_share)};
        if (two) row.push_back(i == 0 ? against_text(ratio(cell, p)) : "");
        row.push_back(phase.kernel + (phase.simulated ? " (simulated)" : ""));
        out.add_row(row);
      }
  return out.text();
}

// A model against itself shows what the machine's noise does to the ratio.
std::string noise_text(const std::vector<Cell>& cells,
                       const BenchOptions& options) {
  if (options.against.empty() || options.against != options.model) return "";
  int checks = 0, inside = 0;
  for (const Cell& cell : cells)
    for (std::size_t p = 0; p < measured_phases(cell[0]).size(); ++p)
      if (const auto r = ratio(cell, p)) {
        ++checks;
        inside += r->low <= 1 && 1 <= r->high;
      }
  return fmt::format(
      "\nnoise check: the model against itself, 1 lies in {} of {} intervals\n",
      inside, checks);
}

void bench(const BenchOptions& options, const Session& session) {
  session.begin();
  const at::Device device = choose_device(session.device);
  Subjects subjects = open_subjects(options);
  LatencyOptions where;
  where.device = device;
  where.dtype = options.dtype == "fp32" ? at::kFloat : at::kBFloat16;
  where.product =
      options.exact ? QuantizedProduct::kExact : QuantizedProduct::kInteger;
  if (options.profile)
    return bench_profile(options, std::move(subjects), where, session);
  if (!options.table.empty())
    return bench_table(options, subjects, where, session);
  const LatencyLab lab(std::move(subjects.models), where.device, where.dtype,
                       where.product);
  std::vector<Cell> cells;
  for (const LatencyPoint& point : bench_points(options))
    cells.push_back(lab.measure(point));
  if (session.json) return print_json(to_json(cells, subjects, device));
  const Latency& first = cells.front().front();
  print(fmt::format("{}, {}, copy bandwidth {:.1f} GB/s, {} rounds, {} tokens "
                    "generated, peak memory {}\n",
                    first.device, first.dtype, first.copy_bandwidth_gb_s,
                    options.point.repeats, options.point.generate,
                    format_bytes(peak_memory())) +
        table(cells, subjects) + noise_text(cells, options));
}

void add_random_options(CLI::App& command, BenchOptions& options) {
  command
      .add_option("--shape", options.shape,
                  "random weights of a published shape, in place of MODEL")
      ->check(CLI::IsMember(published_shapes()));
  command
      .add_option("--layers", options.random.layers,
                  "of --shape: so many blocks, with their share of the "
                  "vocabulary; 0: all")
      ->check(CLI::Range(0, 1000));
  command
      .add_option("--bits", options.random.bits,
                  "of --shape: of the blocks' matrices; 16: bf16")
      ->check(CLI::IsMember({2, 3, 4, 5, 6, 7, 8, 16}))
      ->capture_default_str();
  command
      .add_option("--head-bits", options.random.head_bits,
                  "of --shape: of head and embedding; 16: bf16")
      ->check(CLI::IsMember({2, 3, 4, 5, 6, 7, 8, 16}))
      ->capture_default_str();
  command
      .add_option("--group-size", options.random.group_size,
                  "of --shape: inputs that share a scale; 0: whole rows")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
}

}  // namespace

std::vector<LatencyPoint> bench_points(const BenchOptions& options) {
  std::vector<LatencyPoint> out;
  for (const std::int64_t batch : options.batches) {
    LatencyPoint point = options.point;
    point.batch = batch;
    point.prefill = options.phase != "decode";
    point.decode = options.phase != "prefill" && options.contexts.empty();
    if (point.prefill || point.decode)
      for (const std::int64_t prompt : options.prompts) {
        point.prompt = prompt;
        out.push_back(point);
      }
    point.prefill = false;
    point.decode = options.phase != "prefill";
    if (point.decode)
      for (const std::int64_t context : options.contexts) {
        point.prompt = context;
        out.push_back(point);
      }
  }
  return out;
}

void add_bench(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("bench", "prefill and decode latency");
  auto options = std::make_shared<BenchOptions>();
  command->add_option("model", options->model, "checkpoint folder")
      ->type_name("MODEL");
  command
      ->add_option("--against", options->against,
                   "a second checkpoint, measured alternately; the same one "
                   "again is a check of the noise")
      ->type_name("DIR");
  add_random_options(*command, *options);
  const auto number = [&](const char* name, std::int64_t& value,
                          const char* help) {
    command->add_option(name, value, help)
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
  };
  const auto numbers = [&](const char* name, BenchOptions::Numbers& values,
                           std::int64_t least, const char* help) {
    command->add_option(name, values, help)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::Range(least, std::int64_t{1000000}))
        ->capture_default_str();
  };
  numbers("--prompt", options->prompts, 1, "tokens of the prompt, one or more");
  numbers("--context", options->contexts, 0,
          "decode after so many tokens, in place of after the prompts");
  numbers("--batch", options->batches, 1, "sequences at once, one or more");
  number("--generate", options->point.generate, "tokens to generate");
  number("--repeat", options->point.repeats, "measured rounds");
  command->add_option("--phase", options->phase, "what to measure")
      ->check(CLI::IsMember({"both", "prefill", "decode"}))
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "compute type")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  command->add_flag("--exact", options->exact,
                    "products with quantized matrices leave activations as "
                    "they are, as in measures of quality; without it they are "
                    "rounded to 8 bits (CPU)");
  command->add_flag("--profile", options->profile,
                    "the time of each part of a step, in place of latencies");
  command
      ->add_option("--table", options->table,
                   "measures the parts of the blocks at many widths and bits "
                   "into this file, or takes them from it, and says how well "
                   "their sums predict whole models")
      ->type_name("FILE");
  command
      ->add_option("--table-bits", options->table_bits,
                   "of --table: bits of the parts; 16: dense")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({2, 3, 4, 5, 6, 7, 8, 16}))
      ->capture_default_str();
  number("--strategies", options->strategies,
         "of --table: random models to fit to, and as many to be held against");
  command->callback([options, &session] { bench(*options, session); });
}

}  // namespace autoglm::cli
