#include "passes/pruning/repair.h"

namespace autoglm {
namespace {

Moments select(const Moments& all, const at::Tensor& kept) {
  Moments out;
  out.original = all.original;
  out.cross = all.cross.index_select(1, kept);
  out.compressed = all.compressed.index_select(0, kept).index_select(1, kept);
  out.tokens = all.tokens;
  return out;
}

}  // namespace

Repair repair_columns(const at::Tensor& weight, const at::Tensor& kept,
                      const SplitMoments& moments) {
  const at::ScalarType dtype = weight.scalar_type();
  const at::Tensor wide = weight.to(at::kFloat);
  const at::Tensor cut = wide.index_select(1, kept);
  const Moments fit = select(moments.fit, kept);
  const Moments held_out = select(moments.held_out, kept);
  Repair best;
  best.weight = cut.to(dtype);
  best.error_before = best.error_after = relative_error(wide, cut, held_out);
  const double mean = fit.compressed.diagonal().mean().item<double>();
  if (!(mean > 0)) return best;  // inputs that are all zero teach nothing
  const at::Tensor identity = at::eye(kept.size(0), fit.compressed.options());
  const at::Tensor target = at::mm(wide, fit.cross);
  for (const double ridge : {1e-4, 1e-3, 1e-2, 1e-1}) {
    const double r = ridge * mean;
    const at::Tensor solved =
        solve_spd(fit.compressed + identity * r, (target + cut * r).t())
            .t()
            .to(dtype);
    const double error =
        relative_error(wide, solved.to(at::kFloat), held_out);
    if (error < best.error_after) {
      best.weight = solved.contiguous();
      best.error_after = error;
      best.ridge = ridge;
    }
  }
  return best;
}

}  // namespace autoglm
