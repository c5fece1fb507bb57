#include "passes/quantization/rounder.h"

namespace autoglm {
namespace {

const at::Tensor& dense(const Weight& weight) {
  return std::get<DenseWeight>(weight).value;
}

}  // namespace

Weight Rounder::round(const std::string& name, const Weight& weight,
                      bool search) {
  const Grid& grid = grids_.at(name);
  double energy = 0, before = 0, after = 0;
  const Rounded rounded = by_rows(dense(weight), [&](const at::Tensor& rows) {
    const auto nearest = [&](const GridFit& fit) {
      return Rounded{nearest_codes(rows, fit, grid), fit};
    };
    const auto error = [&](const Rounded& candidate) {
      return (dequantize(candidate, grid) - rows)
          .square()
          .sum(at::kDouble)
          .item<double>();
    };
    Rounded out = nearest(fit_min_max(rows, grid));
    energy += rows.square().sum(at::kDouble).item<double>();
    before += error(out);
    if (search) out = nearest(fit_least_error(rows, {}, grid));
    after += error(out);
    return out;
  });
  const double unit = std::max(energy, 1e-30);
  note(name, {{"error_rtn", before / unit}, {"error", after / unit}});
  return pack(rounded, grid);
}

Weight Rounder::round(const std::string& name, const Weight& weight,
                      const SplitMoments& moments,
                      const AdaquantOptions& options) {
  const Grid& grid = grids_.at(name);
  const AdaquantResult result = adaquant(dense(weight), grid, moments, options,
                                         [&] { progress_.step(0); });
  note(name, {{"error_rtn", result.error_rtn},
              {"error_start", result.error_start},
              {"error_descent", result.error_descent},
              {"error", result.error}});
  return pack(result.rounded, grid);
}

void Rounder::note(const std::string& name, Json facts) {
  const Grid& grid = grids_.at(name);
  Json entry = {
      {"name", name}, {"bits", grid.bits}, {"group_size", grid.group_size}};
  entry.update(facts);
  notes_.push_back(std::move(entry));
  progress_.step();
}

}  // namespace autoglm
