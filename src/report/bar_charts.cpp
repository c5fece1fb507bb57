// Horizontal bars: size per part and latency.
#include <algorithm>

#include "autoglm/core/text.h"
#include "report/charts.h"
#include "report/facts.h"
#include "report/svg.h"

namespace autoglm::report {
namespace {

constexpr double kWidth = 960;
constexpr double kLabels = 190;  // room for the names on the left
constexpr double kValues = 150;  // room for the figures on the right
constexpr double kBar = 26;
constexpr double kFont = 12;
constexpr double kSpan = kWidth - kLabels - kValues;

struct State {
  std::string name;
  const ModelRecord* model;
};

// Cuts `text` so that it fits, with an ellipsis.
std::string fitted(std::string text, double width) {
  if (text_width(text, kFont) <= width) return text;
  while (!text.empty() && text_width(text + "…", kFont) > width) {
    // A code point goes whole.
    while (text.size() > 1 && (text.back() & 0xC0) == 0x80) text.pop_back();
    text.pop_back();
  }
  return text + "…";
}

std::vector<State> states_of(const Record& record) {
  std::vector<State> states = {{"original", &record.before}};
  for (std::size_t i = 0; i < record.steps.size(); ++i)
    if (record.steps[i].after)
      states.push_back({fmt::format("{}  {}", i + 1, record.steps[i].name),
                        &*record.steps[i].after});
  // The output repeats the last step; it is drawn only when there is no step.
  if (states.size() == 1 && record.after)
    states.push_back({"output", &*record.after});
  return states;
}

std::uint64_t part_bytes(const ModelRecord& model, std::string_view part) {
  std::uint64_t bytes = 0;
  for (const auto& [name, value] : model.parts)
    if (name == part) bytes += value;
  return bytes;
}

void draw_parts(Svg& svg, const ModelRecord& model, double y, double scale) {
  double x = kLabels;
  for (const PartStyle& part : part_styles()) {
    const std::uint64_t bytes = part_bytes(model, part.part);
    if (bytes == 0) continue;
    const double width = static_cast<double>(bytes) * scale;
    const double share =
        static_cast<double>(bytes) /
        static_cast<double>(std::max<std::uint64_t>(1, model.weight_bytes));
    svg.rect(x, y, std::max(width - 1, 0.5), kBar, part.style,
             fmt::format("{}: {} ({})", part.part, format_bytes(bytes),
                         percent(share, 1)));
    const std::string label = format_bytes(bytes);
    if (text_width(label, 11) + 10 < width)
      svg.text(x + width / 2, y + kBar / 2 + 4, label, "on-color", "middle");
    x += width;
  }
}

struct LatencyBar {
  std::string name;
  const LatencyPhase* phase;
  bool is_before;
};

std::string phase_detail(const LatencyPhase& phase) {
  std::string text = fmt::format("{}; p90 {}, p99 {}; {} samples", phase.kernel,
                                 milliseconds(phase.p90_ms),
                                 milliseconds(phase.p99_ms), phase.samples);
  if (phase.achieved_gb_s > 0)
    text += fmt::format("; {:.1f} GB/s, {} of the copy bandwidth",
                        phase.achieved_gb_s, percent(phase.bandwidth_share, 0));
  return text;
}

// One phase: a bar for before and one for after on a scale of their own.
void draw_phase(Svg& svg, double top, const std::string& title,
                const LatencyPhase& before, const LatencyPhase& after) {
  svg.text(0, top + 13, title, "label strong");
  const std::string claim = speed(before, after);
  svg.text(kWidth, top + 13, claim,
           simulated(before, after) ? "label faint" : "label strong", "end");
  // The medians are the message: on a busy machine a p99 may be many times as
  // long, and its whisker is cut at the edge.
  const double medians = std::max({before.median_ms, after.median_ms, 1e-9});
  const double longest =
      std::clamp(std::max(before.p99_ms, after.p99_ms), medians, 1.3 * medians);
  const double scale = kSpan / longest;
  double y = top + 22;
  for (const LatencyBar& bar : {LatencyBar{"before", &before, true},
                                LatencyBar{"after", &after, false}}) {
    const LatencyPhase& phase = *bar.phase;
    const char* style = bar.is_before     ? "bar-before"
                        : phase.simulated ? "bar-simulated"
                                          : "bar-after";
    svg.text(kLabels - 10, y + kBar / 2 + 4, bar.name, "label", "end");
    svg.rect(kLabels, y, phase.median_ms * scale, kBar, style,
             phase_detail(phase));
    if (phase.p99_ms > phase.median_ms) {
      const double middle = y + kBar / 2;
      const double from = kLabels + phase.median_ms * scale;
      const double to = kLabels + std::min(phase.p99_ms, longest) * scale;
      svg.line(from, middle, to, middle, "whisker");
      if (phase.p99_ms <= longest)
        svg.line(to, middle - 5, to, middle + 5, "whisker");
    }
    std::string value = milliseconds(phase.median_ms);
    if (phase.simulated) value += " simulated";
    svg.text(kWidth, y + kBar / 2 + 4, value, "label strong", "end");
    if (!phase.kernel.empty()) {
      const std::string kernel =
          fitted(phase.kernel, phase.median_ms * scale - 16);
      if (kernel.size() > 6)
        svg.text(kLabels + 8, y + kBar / 2 + 4, kernel,
                 bar.is_before || phase.simulated ? "on-pale" : "on-color");
    }
    y += kBar + 6;
  }
}

}  // namespace

const std::vector<PartStyle>& part_styles() {
  static const std::vector<PartStyle> styles = {{"embedding", "part-embedding"},
                                                {"attention", "part-attention"},
                                                {"mlp", "part-mlp"},
                                                {"experts", "part-experts"},
                                                {"router", "part-router"},
                                                {"norms", "part-norms"},
                                                {"head", "part-head"},
                                                {"extra", "part-extra"}};
  return styles;
}

std::string size_chart(const Record& record) {
  const std::vector<State> states = states_of(record);
  std::uint64_t largest = 0;
  for (const State& state : states)
    largest = std::max(largest, state.model->weight_bytes);
  if (largest == 0) return "";
  const double row = kBar + 10;
  Svg svg(kWidth, row * static_cast<double>(states.size()),
          "bytes per part of the model, before and after each step");
  const double scale = kSpan / static_cast<double>(largest);
  double y = 2;
  for (const State& state : states) {
    svg.text(kLabels - 10, y + kBar / 2 + 4, fitted(state.name, kLabels - 14),
             "label", "end");
    draw_parts(svg, *state.model, y, scale);
    const double bytes = static_cast<double>(state.model->weight_bytes);
    std::string total = format_bytes(state.model->weight_bytes);
    if (state.model != &record.before && record.before.weight_bytes > 0)
      total += fmt::format(
          " · {}",
          percent(bytes / static_cast<double>(record.before.weight_bytes), 1));
    svg.text(kLabels + bytes * scale + 8, y + kBar / 2 + 4, total,
             "label strong");
    y += row;
  }
  return svg.str();
}

std::string latency_chart(const Record& record) {
  if (!record.after || !record.before.latency || !record.after->latency)
    return "";
  const Latency& before = *record.before.latency;
  const Latency& after = *record.after->latency;
  if (before.prefill.median_ms <= 0 && before.decode.median_ms <= 0) return "";
  const double row = 22 + 2 * (kBar + 6) + 14;
  Svg svg(kWidth, 2 * row, "latency of prefill and decode, before and after");
  draw_phase(svg, 0, fmt::format("Prefill of {} tokens", after.prompt),
             before.prefill, after.prefill);
  draw_phase(svg, row, "Decode, per token", before.decode, after.decode);
  return svg.str();
}

}  // namespace autoglm::report
