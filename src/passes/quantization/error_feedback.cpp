#include "passes/quantization/error_feedback.h"

#include <algorithm>
#include <vector>

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

Feedback make_feedback(const at::Tensor& moments) {
  at::Tensor wide = moments.to(at::kDouble);
  at::Tensor energy = wide.diagonal().clone();
  if (!at::isfinite(energy.sum()).item<bool>())
    fail(ErrorKind::kNumeric,
         "the calibration data gives NaN or infinity as the input of a matrix");
  const double sum = energy.sum().item<double>();
  const double mean = sum > 0 ? sum / static_cast<double>(energy.numel()) : 1;
  const at::Tensor silent = energy <= 0;
  Feedback out;
  out.order = energy.argsort(/*stable=*/true, 0, /*descending=*/true);
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

Rounded round_with_feedback(const at::Tensor& weight, const GridFit& fit,
                            const Grid& grid, const Feedback& feedback) {
  constexpr std::int64_t kBlock = 128;
  const std::int64_t in = weight.size(1);
  const auto levels = static_cast<double>(grid.levels());
  const at::Tensor groups =
      at::div(feedback.order, grid.group_size, "floor").to(at::kCPU);
  const std::int64_t* group = groups.const_data_ptr<std::int64_t>();
  // Columns as rows: everything below works on contiguous memory.
  at::Tensor rest = weight.t().index_select(0, feedback.order).contiguous();
  const at::Tensor scales = fit.scales.t().contiguous();
  const at::Tensor zeros = fit.zeros.t().contiguous();
  const at::Tensor spread = feedback.factor.diagonal().reciprocal();
  at::Tensor codes = at::empty_like(rest), positions = at::empty_like(rest);
  for (std::int64_t begin = 0; begin < in; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, in - begin);
    const std::int64_t end = begin + count;
    const at::Tensor rows = feedback.factor.narrow(0, begin, count);
    at::Tensor errors = at::empty({count, rest.size(1)}, rest.options());
    for (std::int64_t k = begin; k < end; ++k) {
      const at::Tensor scale = scales[group[k]], zero = zeros[group[k]];
      const at::Tensor column = rest[k];
      at::Tensor position = positions[k], code = codes[k];
      at::div_out(position, column, scale).add_(zero);
      at::round_out(code, position).clamp_(0, levels);
      at::Tensor error = errors[k - begin];
      at::sub_out(error, column, (code - zero) * scale).mul_(spread[k]);
      const std::int64_t left = end - k - 1;
      if (left > 0)
        rest.narrow(0, k + 1, left)
            .addr_(rows[k - begin].narrow(0, k + 1, left), error, 1, -1);
    }
    if (end < in)
      rest.narrow(0, end, in - end)
          .addmm_(rows.narrow(1, end, in - end).t(), errors, 1, -1);
  }
  const at::Tensor back = feedback.order.argsort();
  const auto as_given = [&](const at::Tensor& columns) {
    return columns.index_select(0, back).t().contiguous();
  };
  return {as_given(codes), fit, as_given(positions)};
}

}  // namespace autoglm
