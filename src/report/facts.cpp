#include "report/facts.h"

#include <algorithm>
#include <cmath>

#include "autoglm/core/config.h"
#include "autoglm/core/text.h"

namespace autoglm::report {
namespace {

// -1, 0, 1: changes below a tenth of a per mille are nobody's business.
int verdict(double before, double after, bool lower_is_better) {
  const double scale = std::max(std::abs(before), std::abs(after));
  if (scale == 0 || std::abs(after - before) < 1e-4 * scale) return 0;
  return (after < before) == lower_is_better ? 1 : -1;
}

class Rows {
 public:
  explicit Rows(std::vector<Comparison>& out) : out_(out) {}

  void group(std::string name) { group_ = std::move(name); }

  template <class Format>
  void add(const char* measure, bool lower_is_better, double before,
           double after, Format&& format, std::string change = "") {
    if (change.empty()) change = change_percent(before, after);
    out_.push_back({group_, measure, lower_is_better ? "lower" : "higher",
                    format(before), format(after), std::move(change),
                    verdict(before, after, lower_is_better), false});
  }

 private:
  std::vector<Comparison>& out_;
  std::string group_;
};

void compare_size(Rows& rows, const ModelRecord& before,
                  const ModelRecord& after) {
  const auto bytes = [](double value) {
    return format_bytes(static_cast<std::uint64_t>(value));
  };
  const auto count = [](double value) {
    return format_count(static_cast<std::uint64_t>(value));
  };
  rows.group("Size");
  rows.add("parameters", true, static_cast<double>(before.parameters),
           static_cast<double>(after.parameters), count);
  rows.add("weights in memory", true, static_cast<double>(before.weight_bytes),
           static_cast<double>(after.weight_bytes), bytes);
  if (before.disk_bytes > 0 && after.disk_bytes > 0)
    rows.add("checkpoint on disk", true, static_cast<double>(before.disk_bytes),
             static_cast<double>(after.disk_bytes), bytes);
  if (before.cache_bytes != after.cache_bytes && before.cache_bytes > 0)
    rows.add("cache per token", true, static_cast<double>(before.cache_bytes),
             static_cast<double>(after.cache_bytes), bytes);
}

std::string points(double before, double after) {
  const double difference = 100 * (after - before);
  if (std::abs(difference) < 5e-4) return "0";
  return fmt::format("{}{:.2f} points", difference < 0 ? kMinus : "+",
                     std::abs(difference));
}

void compare_quality(Rows& rows, const Scorecard& before,
                     const Scorecard& after) {
  const auto fixed3 = [](double v) { return fmt::format("{:.3f}", v); };
  const auto fixed4 = [](double v) { return fmt::format("{:.4f}", v); };
  const auto share = [](double v) { return percent(v); };
  const auto digits = [](double v) {
    return v == 0 ? std::string("0") : fmt::format("{:.3g}", v);
  };
  rows.group("Quality");
  rows.add("perplexity", true, before.perplexity, after.perplexity, fixed3);
  rows.add("bits per byte", true, before.bits_per_byte, after.bits_per_byte,
           fixed4);
  rows.add("next-token accuracy", false, before.accuracy, after.accuracy, share,
           points(before.accuracy, after.accuracy));
  if (!after.divergence) return;
  const Divergence& d = *after.divergence;
  // Against itself the original scores these by definition.
  rows.add("accuracy retention", false, 1, d.accuracy_retention, share,
           points(1, d.accuracy_retention));
  rows.add("top-1 agreement", false, 1, d.top1_agreement, share,
           points(1, d.top1_agreement));
  rows.add("KL divergence (nats)", true, 0, d.kl, digits, "-");
  rows.add("KL, 99th percentile", true, 0, d.kl_p99, digits, "-");
  rows.add("logit cosine", false, 1, d.cosine, fixed4, "-");
  rows.add("probability L2", true, 0, d.l2, digits, "-");
}

void compare_latency(std::vector<Comparison>& out, const std::string& name,
                     const LatencyPhase& before, const LatencyPhase& after) {
  if (before.median_ms <= 0 || after.median_ms <= 0) return;
  const bool no_claim = simulated(before, after);
  out.push_back(
      {"Latency", name, "lower", milliseconds(before.median_ms),
       milliseconds(after.median_ms), speed(before, after),
       no_claim ? 0 : verdict(before.median_ms, after.median_ms, true),
       after.simulated});
}

std::string text_or(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return "";
  const Json& value = object[key];
  return value.is_string() ? value.get<std::string>() : value.dump();
}

ConfigNode to_config(const Json& json) {
  if (json.is_object()) {
    ConfigNode map = ConfigNode::map();
    for (const auto& [key, value] : json.items())
      map.set(key, to_config(value));
    return map;
  }
  if (json.is_array()) {
    ConfigNode list = ConfigNode::list();
    for (const Json& item : json) list.items.push_back(to_config(item));
    return list;
  }
  if (json.is_null()) return {};
  if (json.is_string()) return ConfigNode::of(json.get<std::string>());
  return ConfigNode::of(json.dump());
}

}  // namespace

const ModelRecord* last_state(const Record& record) {
  if (record.after) return &*record.after;
  for (auto step = record.steps.rbegin(); step != record.steps.rend(); ++step)
    if (step->after) return &*step->after;
  return nullptr;
}

std::string last_state_name(const Record& record) {
  if (record.after) return "after";
  for (std::size_t i = record.steps.size(); i > 0; --i)
    if (record.steps[i - 1].after) return fmt::format("after step {}", i);
  return "after";
}

bool simulated(const LatencyPhase& before, const LatencyPhase& after) {
  return before.simulated || after.simulated;
}

std::string speed(const LatencyPhase& before, const LatencyPhase& after) {
  if (simulated(before, after)) return "not comparable";
  const double ratio = before.median_ms / after.median_ms;
  if (!std::isfinite(ratio)) return "-";
  if (std::abs(ratio - 1) < 0.005) return "same";
  return ratio > 1 ? fmt::format("{:.2f}x faster", ratio)
                   : fmt::format("{:.2f}x slower", 1 / ratio);
}

std::vector<Comparison> compare(const Record& record) {
  std::vector<Comparison> out;
  const ModelRecord* after = last_state(record);
  if (after == nullptr) return out;
  const ModelRecord& before = record.before;
  Rows rows(out);
  compare_size(rows, before, *after);
  if (before.scorecard && after->scorecard)
    compare_quality(rows, *before.scorecard, *after->scorecard);
  if (before.latency && after->latency) {
    const Latency& latency = *after->latency;
    compare_latency(out, fmt::format("prefill, {} tokens", latency.prompt),
                    before.latency->prefill, latency.prefill);
    compare_latency(out, "decode, per token", before.latency->decode,
                    latency.decode);
  }
  return out;
}

std::string evaluation_note(const Record& record) {
  if (!record.before.scorecard) return "";
  const Scorecard& s = *record.before.scorecard;
  std::string note =
      fmt::format("Quality over {} predicted tokens ({} windows of {}) of {}.",
                  thousands(static_cast<std::uint64_t>(s.tokens)), s.windows,
                  s.length, s.data);
  const Json& data = record.data;
  if (data.is_object() && data.contains("evaluation"))
    for (const char* seen : {"calibration", "training"})
      if (data.contains(seen) && text_or(data[seen], "source") ==
                                     text_or(data["evaluation"], "source"))
        return note + fmt::format(
                          " The {} text is the same file: the figures "
                          "flatter the result.",
                          seen);
  return note;
}

Verdict judge(const ConstraintRecord& c) {
  const bool is_size = c.measure == "size";
  const bool is_latency = c.measure.starts_with("latency");
  const auto number = [&](double value) {
    if (is_size) return format_bytes(static_cast<std::uint64_t>(value));
    return is_latency ? milliseconds(value) : significant(value);
  };
  const bool at_most = !c.limit.starts_with(">");
  Verdict out{c.measure, c.limit, number(c.value), "", 0, c.met};
  const double distance = std::abs(c.value - c.bound);
  out.margin = fmt::format("{} {}", c.met ? "room left:" : "missed by",
                           number(distance));
  if (c.bound != 0)
    out.margin +=
        fmt::format(" ({:.1f} %)", 100 * distance / std::abs(c.bound));
  const double ratio = at_most ? c.value / c.bound : c.bound / c.value;
  out.use = std::isfinite(ratio) ? ratio : 0;
  return out;
}

std::string status_sentence(const Record& record) {
  std::size_t finished = 0;
  for (const StepRecord& step : record.steps)
    if (step.status == "done") ++finished;
  if (record.status == "done") {
    return record.constraints.empty() ? "All passes ran."
                                      : "All passes ran, all constraints met.";
  }
  if (record.status == "gate not met") {
    const auto missed =
        std::count_if(record.constraints.begin(), record.constraints.end(),
                      [](const ConstraintRecord& c) { return !c.met; });
    return fmt::format("All passes ran; {} of {} constraints not met.", missed,
                       record.constraints.size());
  }
  return fmt::format("The run stopped after {} finished {}.", finished,
                     finished == 1 ? "pass" : "passes");
}

std::vector<std::pair<std::string, std::string>> provenance(
    const Record& record) {
  std::vector<std::pair<std::string, std::string>> rows;
  const auto add = [&](const char* name, std::string value) {
    if (!value.empty()) rows.emplace_back(name, std::move(value));
  };
  add("original", record.model);
  add("fingerprint of the original", record.input_fingerprint);
  add("output", record.output);
  add("configuration", record.config);
  if (record.data.is_object()) {
    for (const auto& [use, data] : record.data.items())
      add((use + " text").c_str(),
          fmt::format("{}: {} windows of {} tokens", text_or(data, "source"),
                      text_or(data, "windows"), text_or(data, "length")));
  }
  add("seed", std::to_string(record.seed));
  add("device", record.device);
  add("processor", fmt::format("{}, {} {}", record.cpu, record.threads,
                               record.threads == 1 ? "thread" : "threads"));
  add("versions", fmt::format("autoglm {}, libtorch {}", record.autoglm_version,
                              record.libtorch_version));
  add("started", record.started);
  add("took", format_duration(record.seconds));
  return rows;
}

std::string resolved_yaml(const Record& record) {
  if (!record.resolved.is_object() || record.resolved.empty()) return "";
  return to_yaml(to_config(record.resolved));
}

std::vector<std::vector<std::string>> latency_table(const Record& record) {
  if (!record.after || !record.before.latency || !record.after->latency)
    return {};
  std::vector<std::vector<std::string>> rows = {
      {"phase", "model", "median", "p90", "p99", "samples", "kernel",
       "bytes touched", "GB/s", "of copy bandwidth"}};
  const auto add = [&](const char* model, const LatencyPhase& phase) {
    if (phase.median_ms <= 0) return;
    rows.push_back({phase.phase, model,
                    milliseconds(phase.median_ms) +
                        (phase.simulated ? " (simulated)" : ""),
                    milliseconds(phase.p90_ms), milliseconds(phase.p99_ms),
                    std::to_string(phase.samples), phase.kernel,
                    format_bytes(phase.bytes_touched),
                    fmt::format("{:.3g}", phase.achieved_gb_s),
                    percent(phase.bandwidth_share, 0)});
  };
  add("before", record.before.latency->prefill);
  add("after", record.after->latency->prefill);
  add("before", record.before.latency->decode);
  add("after", record.after->latency->decode);
  return rows;
}

}  // namespace autoglm::report
