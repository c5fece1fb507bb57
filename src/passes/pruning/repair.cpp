#include "passes/pruning/repair.h"

namespace autoglm {

Repair repair_columns(const at::Tensor& weight, const at::Tensor& kept,
                      const SplitMoments& moments) {
  const at::ScalarType dtype = weight.scalar_type();
  const at::Tensor wide = weight.to(at::kFloat);
  const at::Tensor cut = wide.index_select(1, kept);
  const LayerError error(wide, moments.held_out);
  // What is cut counts as zero.
  const auto error_of = [&](const at::Tensor& columns) {
    const at::Tensor full =
        at::zeros_like(wide).index_copy(1, kept, columns.to(at::kFloat));
    return error.relative(full);
  };
  Repair best;
  best.weight = cut.to(dtype);
  best.error_before = best.error_after = error_of(best.weight);
  const at::Tensor inputs =
      moments.fit.compressed.index_select(0, kept).index_select(1, kept);
  const double mean = inputs.diagonal().mean().item<double>();
  if (!(mean > 0)) return best;  // inputs that are all zero teach nothing
  const at::Tensor identity = at::eye(kept.size(0), inputs.options());
  const at::Tensor target =
      at::mm(wide, moments.fit.cross().index_select(1, kept));
  for (const double ridge : {1e-4, 1e-3, 1e-2, 1e-1}) {
    const double r = ridge * mean;
    const at::Tensor solved =
        solve_spd(inputs + identity * r, (target + cut * r).t()).t().to(dtype);
    const double error_solved = error_of(solved);
    if (error_solved < best.error_after) {
      best.weight = solved.contiguous();
      best.error_after = error_solved;
      best.ridge = ridge;
    }
  }
  return best;
}

}  // namespace autoglm
