// How each loss measure went from step to step.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "autoglm/core/text.h"
#include "report/charts.h"
#include "report/facts.h"
#include "report/svg.h"

namespace autoglm::report {
namespace {

constexpr double kWidth = 304;
constexpr double kHeight = 150;
constexpr double kSide = 34;    // left and right, for the outer labels
constexpr double kTop = 26;     // above the highest point, for its label
constexpr double kBottom = 30;  // below the lowest, for the step numbers

struct Point {
  std::size_t step;  // 0 is the original
  double value;
};

struct Measure {
  const char* name;
  const char* better;
  std::function<double(const Scorecard&)> read;  // NaN when not measured
  double of_original;                            // NaN: read it
  std::string (*format)(double);
};

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

template <class Member>
std::function<double(const Scorecard&)> of_divergence(Member member) {
  return [member](const Scorecard& card) {
    return card.divergence ? *card.divergence.*member : kNone;
  };
}

std::string small(double v) { return v == 0 ? "0" : fmt::format("{:.3g}", v); }
std::string share(double v) { return percent(v, v > 0.9995 ? 0 : 1); }

const std::vector<Measure>& measures() {
  static const std::vector<Measure> all = {
      {"perplexity", "lower",
       [](const Scorecard& card) { return card.perplexity; }, kNone,
       significant},
      {"bits per byte", "lower",
       [](const Scorecard& card) { return card.bits_per_byte; }, kNone,
       significant},
      {"KL divergence, nats", "lower", of_divergence(&Divergence::kl), 0,
       small},
      {"top-1 agreement", "higher", of_divergence(&Divergence::top1_agreement),
       1, share},
      {"accuracy retention", "higher",
       of_divergence(&Divergence::accuracy_retention), 1, share},
      {"probability L2", "lower", of_divergence(&Divergence::l2), 0, small}};
  return all;
}

std::vector<Point> points_of(const Record& record, const Measure& measure) {
  std::vector<Point> points;
  const auto add = [&](std::size_t step, double value) {
    if (std::isfinite(value)) points.push_back({step, value});
  };
  if (std::isfinite(measure.of_original)) {
    add(0, measure.of_original);
  } else if (record.before.scorecard) {
    add(0, measure.read(*record.before.scorecard));
  }
  for (std::size_t i = 0; i < record.steps.size(); ++i)
    if (const auto& after = record.steps[i].after; after && after->scorecard)
      add(i + 1, measure.read(*after->scorecard));
  return points;
}

std::string draw(const Measure& measure, const std::vector<Point>& points,
                 std::size_t steps) {
  double low = points[0].value;
  double high = points[0].value;
  for (const Point& point : points) {
    low = std::min(low, point.value);
    high = std::max(high, point.value);
  }
  const double range = high > low ? high - low : 1;
  const double floor = kHeight - kBottom - 14;
  const auto y_of = [&](double value) {
    return floor - (value - low) / range * (floor - kTop);
  };
  const auto x_of = [&](std::size_t step) {
    return kSide + (kWidth - 2 * kSide) * static_cast<double>(step) /
                       static_cast<double>(std::max<std::size_t>(steps, 1));
  };
  Svg svg(kWidth, kHeight, fmt::format("{} after each step", measure.name));
  const double base = y_of(points[0].value);
  svg.line(8, base, kWidth - 8, base, "baseline");
  std::string path;
  for (const Point& point : points)
    path += fmt::format("{:.1f},{:.1f} ", x_of(point.step), y_of(point.value));
  if (points.size() > 1) {
    path.pop_back();
    svg.polyline(path, "trend");
  }
  // With many steps only the first, the last and the worst are labelled.
  const bool label_all = points.size() <= 5;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Point& point = points[i];
    const double x = x_of(point.step);
    const double y = y_of(point.value);
    const std::string text = measure.format(point.value);
    svg.dot(x, y, i == 0 ? 4 : 4.5, i == 0 ? "dot-before" : "dot-after",
            fmt::format("step {}: {}", point.step, text));
    // Below the line where the curve goes up on both sides.
    const bool valley =
        (i == 0 || points[i - 1].value > point.value) &&
        (i + 1 == points.size() || points[i + 1].value > point.value) &&
        points.size() > 1;
    if (label_all || i == 0 || i + 1 == points.size())
      svg.text(x, valley ? y + 18 : y - 10, text,
               i == 0 ? "tick" : "tick strong", "middle");
    svg.text(x, kHeight - 4,
             point.step == 0 ? "orig." : std::to_string(point.step), "tick",
             "middle");
  }
  return svg.str();
}

}  // namespace

std::vector<LossChart> loss_charts(const Record& record) {
  std::vector<LossChart> charts;
  for (const Measure& measure : measures()) {
    const std::vector<Point> points = points_of(record, measure);
    // The original alone is no picture.
    if (points.empty() || points.back().step == 0) continue;
    charts.push_back({measure.name, measure.better,
                      draw(measure, points, record.steps.size())});
  }
  return charts;
}

}  // namespace autoglm::report
