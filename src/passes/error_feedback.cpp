#include "passes/error_feedback.h"

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

// The inverse of an upper factor R of `matrix` = R R', which is the upper
// factor U of its inverse = U' U; undefined where there is none. R comes from
// the Cholesky factorization of the matrix with both axes reversed, so that one
// factorization and one triangular inverse are all it takes.
at::Tensor inverse_factor(const at::Tensor& matrix) {
  const auto [lower, info] = at::linalg_cholesky_ex(matrix.flip({0, 1}));
  if (info.item<int>() != 0) return {};
  const at::Tensor upper = lower.flip({0, 1});
  return at::linalg_solve_triangular(
      upper, at::eye(matrix.size(0), matrix.options()), /*upper=*/true);
}

}  // namespace

Feedback make_feedback(const at::Tensor& moments, Turns turns) {
  at::Tensor wide = moments.to(at::kDouble);
  at::Tensor energy = wide.diagonal().clone();
  if (!at::isfinite(energy.sum()).item<bool>())
    fail(ErrorKind::kNumeric,
         "the calibration data gives NaN or infinity as the input of a matrix");
  const double sum = energy.sum().item<double>();
  const double mean = sum > 0 ? sum / static_cast<double>(energy.numel()) : 1;
  const at::Tensor silent = energy <= 0;
  Feedback out;
  out.order =
      turns == Turns::kByEnergy
          ? energy.argsort(/*stable=*/true, 0, /*descending=*/true)
          : at::arange(energy.numel(), energy.options().dtype(at::kLong));
  wide = wide + at::diag(silent.to(at::kDouble) * mean);
  wide = wide.index_select(0, out.order).index_select(1, out.order);
  const at::Tensor identity = at::eye(wide.size(0), wide.options());
  for (out.damping = 0.01;; out.damping *= 10) {
    const at::Tensor factor =
        inverse_factor(wide + identity * (out.damping * mean));
    if (factor.defined() && at::isfinite(factor).all().item<bool>()) {
      out.factor = factor.to(at::kFloat).contiguous();
      return out;
    }
    // The diagonal rules in the end, whatever the moments are.
    if (out.damping > 1e12)
      fail(ErrorKind::kNumeric,
           "the moments of the calibration data cannot be factorized");
  }
}

}  // namespace autoglm
