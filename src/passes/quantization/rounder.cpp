#include "passes/quantization/rounder.h"

#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "passes/quantization/gptq.h"

namespace autoglm {
namespace {

// By block; 8-bit rounding errors are so small that more steps change little.
constexpr std::int64_t kSteps = 60, kFewSteps = 10;

const at::Tensor& checked_values(const std::string& name,
                                 const Linear& linear) {
  const at::Tensor& value = std::get<DenseWeight>(linear.weight).value;
  if (!at::isfinite(value.sum(at::kFloat)).item<bool>() &&
      !at::isfinite(value).all().item<bool>())
    fail(ErrorKind::kNumeric,
         fmt::format("quantization: {} holds NaN or infinity", name));
  return value;
}

double decibel(double relative_error) {
  return -10 * std::log10(std::max(relative_error, 1e-30));
}

}  // namespace

std::int64_t automatic_iterations(const QuantizationOptions& options,
                                  int bits) {
  if (options.iterations >= 0) return options.iterations;
  // Descent alone gets as far on a layer's error.
  if (options.mode == "layer") return 0;
  return bits >= 7 ? kFewSteps : kSteps;
}

Weight round_to_nearest(const std::string& name, const Linear& linear,
                        const Scheme& scheme) {
  const at::Tensor& values = checked_values(name, linear);
  if (scheme.float8) return round_float8(values, scheme.grid.scale_dtype);
  return pack(
      by_rows(values,
              [&](const at::Tensor& rows) {
                const GridFit fit = fit_min_max(rows, scheme.grid);
                return Rounded{nearest_codes(rows, fit, scheme.grid), fit};
              }),
      scheme.grid);
}

Rounded Rounder::round(const std::string& name, const Linear& linear,
                       const at::Tensor& importance) {
  const Scheme& how = scheme(name);
  const bool search =
      how.method != "rtn" && (how.method == "mse" || options_.scale_search);
  double energy = 0, before = 0, after = 0;
  Rounded out =
      by_rows(checked_values(name, linear), [&](const at::Tensor& rows) {
        const auto nearest = [&](const GridFit& fit) {
          return Rounded{nearest_codes(rows, fit, how.grid), fit};
        };
        const auto error = [&](const Rounded& candidate) {
          return (dequantize(candidate, how.grid) - rows)
              .square()
              .sum(at::kDouble)
              .item<double>();
        };
        Rounded rounded = nearest(fit_min_max(rows, how.grid));
        energy += rows.square().sum(at::kDouble).item<double>();
        before += error(rounded);
        if (search)
          rounded = nearest(fit_least_error(rows, importance, how.grid));
        after += error(rounded);
        return rounded;
      });
  const double unit = std::max(energy, 1e-30);
  note(name, {{"error_rtn", before / unit}, {"error", after / unit}});
  return out;
}

Weight Rounder::round_alone(const std::string& name, const Linear& linear) {
  const Scheme& how = scheme(name);
  if (!how.float8) return pack(round(name, linear), how.grid);
  const at::Tensor values = checked_values(name, linear);
  Float8Weight out = round_float8(values, how.grid.scale_dtype);
  const at::Tensor wide = values.to(at::kFloat);
  const double energy = wide.square().sum(at::kDouble).item<double>();
  const double error = (to_dense(out, at::kFloat) - wide)
                           .square()
                           .sum(at::kDouble)
                           .item<double>() /
                       std::max(energy, 1e-30);
  note(name, {{"error_rtn", error}, {"error", error}});
  annotate(name, {{"format", "fp8"}});
  return out;
}

Rounded Rounder::round(const std::string& name, const Linear& linear,
                       const SplitMoments& moments, const OutputMetric& outputs,
                       at::Tensor& bias) {
  const Scheme& how = scheme(name);
  const at::Tensor& values = checked_values(name, linear);
  if (how.method == "adaquant") {
    const AdaquantResult result =
        adaquant(values, learns_alone(name) ? bias : at::Tensor(), how.grid,
                 moments, adaquant_options(name), outputs, [&] { tick(); });
    if (learns_alone(name)) bias = result.bias;
    note(name, {{"error_rtn", result.error_rtn},
                {"error_start", result.error_start},
                {"error_descent", result.error_descent},
                {"error", result.error}});
    return result.rounded;
  }
  const bool feedback = how.method == "gptq" ||
                        (how.method == "adaquant" && options_.error_feedback);
  std::optional<Feedback> spread;
  if (feedback) spread = make_feedback(moments.fit.compressed);
  double energy = 0, before = 0, after = 0;
  Rounded out = by_rows(values, [&](const at::Tensor& rows) {
    const LayerError judged(rows, moments.held_out);
    const auto error = [&](const Rounded& candidate) {
      return judged.relative(dequantize(candidate, how.grid)) * judged.energy();
    };
    GridFit fit = fit_min_max(rows, how.grid);
    const auto nearest = [&] {
      return Rounded{nearest_codes(rows, fit, how.grid), fit};
    };
    Rounded rounded = nearest();
    energy += judged.energy();
    before += error(rounded);
    if (how.method == "mse" || options_.scale_search) {
      fit = fit_least_error(rows, moments.fit.compressed.diagonal(), how.grid);
      rounded = nearest();
    }
    if (spread) rounded = round_with_feedback(rows, fit, how.grid, *spread);
    after += error(rounded);
    rounded.positions = at::Tensor();
    return rounded;
  });
  const double unit = std::max(energy, 1e-30);
  note(name, {{"error_rtn", before / unit}, {"error", after / unit}});
  if (spread && spread->damping > 0.011)
    annotate(name, {{"damping", spread->damping}});
  return out;
}

AdaquantOptions Rounder::adaquant_options(const std::string& name) const {
  AdaquantOptions out;
  // What learns by block starts where descent alone leads.
  out.iterations = learns_alone(name)
                       ? automatic_iterations(options_, scheme(name).grid.bits)
                       : 0;
  out.sweeps = options_.sweeps;
  if (options_.code_rate >= 0) out.code_rate = options_.code_rate;
  if (options_.scale_rate >= 0) out.scale_rate = options_.scale_rate;
  out.scale_search = options_.scale_search;
  out.error_feedback = options_.error_feedback;
  return out;
}

void Rounder::note(const std::string& name, Json facts) {
  const Scheme& how = scheme(name);
  Json entry = {{"name", name},
                {"bits", how.grid.bits},
                {"group_size", how.grid.group_size},
                {"symmetric", how.grid.symmetric},
                {"method", how.method}};
  facts["snr_db"] = decibel(facts["error"].get<double>());
  entry.update(facts);
  order_.push_back(name);
  notes_[name] = std::move(entry);
  progress_.step();
}

void Rounder::annotate(const std::string& name, const Json& facts) {
  notes_.at(name).update(facts);
}

Json Rounder::take_notes() {
  Json out = Json::array();
  for (const std::string& name : order_) out.push_back(notes_.at(name));
  return out;
}

}  // namespace autoglm
