// autoglm bench --table: latencies of parts, and how well they add up.
#include <algorithm>
#include <cmath>

#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/latency_table.h"
#include "bench.h"
#include "print.h"

namespace autoglm::cli {
namespace {

struct Prediction {
  double sum_ms, measured_ms;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle]
                                : (values[middle - 1] + values[middle]) / 2;
}

// FFN widths in sixteenths of the widest one, in whole groups.
std::int64_t table_align(const Architecture& architecture, std::int64_t group) {
  std::int64_t widest = 0;
  for (const BlockWidths& widths : architecture.blocks)
    widest = std::max(widest, widths.ffn);
  const std::int64_t unit = group > 0 ? group : 8;
  return std::max(unit, widest / 16 / unit * unit);
}

struct Outcome {
  LatencyOptions where;
  LatencyFit fit;
  std::vector<Prediction> held_out;
  std::size_t measured = 0, reused = 0;

  double error(const Prediction& p) const {
    return std::abs(fit.predict(p.sum_ms) / p.measured_ms - 1);
  }
  double median_error() const {
    std::vector<double> errors;
    for (const Prediction& p : held_out) errors.push_back(error(p));
    return median(errors);
  }
  const char* phase() const { return where.prefill ? "prefill" : "decode"; }
};

Outcome run_table(const BenchOptions& options, const Architecture& architecture,
                  const LatencyOptions& where) {
  std::vector<int> bits(options.table_bits.begin(), options.table_bits.end());
  const auto half = static_cast<std::size_t>(options.strategies);
  const auto strategies = random_strategies(
      architecture, bits, table_align(architecture, options.random.group_size),
      2 * half, where.seed);
  LatencyTable table(architecture, where, options.random.group_size,
                     options.table);
  Progress progress(
      fmt::format("latencies, {}", where.prefill ? "prefill" : "decode"),
      2 * options.strategies, "models");
  std::vector<Prediction> all;
  for (const auto& strategy : strategies) {
    const double sum = table.sum_ms(strategy);
    all.push_back({sum, table.measure_ms(strategy)});
    progress.step();
  }
  std::vector<double> sums, measured;
  for (std::size_t i = 0; i < half; ++i) {
    sums.push_back(all[i].sum_ms);
    measured.push_back(all[i].measured_ms);
  }
  Outcome out;
  out.where = where;
  out.fit = fit_latency(sums, measured);
  out.held_out.assign(all.begin() + static_cast<std::ptrdiff_t>(half),
                      all.end());
  out.measured = table.measured();
  out.reused = table.reused();
  return out;
}

Json to_json(const Outcome& outcome) {
  Json held_out = Json::array();
  for (const Prediction& p : outcome.held_out)
    held_out.push_back({{"sum_ms", p.sum_ms},
                        {"predicted_ms", outcome.fit.predict(p.sum_ms)},
                        {"measured_ms", p.measured_ms}});
  return {{"phase", outcome.phase()},
          {"batch", outcome.where.batch},
          {"prompt", outcome.where.prompt},
          {"a_ms", outcome.fit.a},
          {"b", outcome.fit.b},
          {"median_error", outcome.median_error()},
          {"entries_measured", outcome.measured},
          {"entries_reused", outcome.reused},
          {"held_out", held_out}};
}

std::string to_text(const Outcome& outcome) {
  TextTable table({"sum of parts", "predicted", "measured", "error"});
  for (const Prediction& p : outcome.held_out)
    table.add_row({fmt::format("{:.3f} ms", p.sum_ms),
                   fmt::format("{:.3f} ms", outcome.fit.predict(p.sum_ms)),
                   fmt::format("{:.3f} ms", p.measured_ms),
                   fmt::format("{:.1f} %", 100 * outcome.error(p))});
  return fmt::format(
      "{}, batch {}, {} tokens: {} entries measured, {} known; model = {:.3f} "
      "ms + {:.3f} x parts, median error {:.1f} % on {} random models that "
      "were "
      "not fitted\n\n{}",
      outcome.phase(), outcome.where.batch, outcome.where.prompt,
      outcome.measured, outcome.reused, outcome.fit.a, outcome.fit.b,
      100 * outcome.median_error(), outcome.held_out.size(), table.text());
}

}  // namespace

void bench_table(const BenchOptions& options, const Subjects& subjects,
                 const LatencyOptions& where, const Session& session) {
  Json json = Json::array();
  std::string text;
  for (const LatencyPoint& point : bench_points(options))
    for (const bool prefill : {true, false}) {
      if (!(prefill ? point.prefill : point.decode)) continue;
      LatencyOptions own = where;
      static_cast<LatencyPoint&>(own) = point;
      own.prefill = prefill;
      own.decode = !prefill;
      const Outcome outcome =
          run_table(options, subjects.models.front().architecture, own);
      json.push_back(to_json(outcome));
      text += (text.empty() ? "" : "\n") + to_text(outcome);
    }
  if (session.json) return print_json(json);
  print(text);
}

}  // namespace autoglm::cli
