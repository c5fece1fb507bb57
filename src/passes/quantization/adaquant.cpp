#include "passes/quantization/adaquant.h"

#include <ATen/core/grad_mode.h>
#include <torch/optim/adam.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

// Straight through: the value of `to`, the gradient of `from`.
at::Tensor through(const at::Tensor& from, const at::Tensor& to) {
  return from + (to - from).detach();
}

struct Start {
  at::Tensor codes;
  GridFit fit;
  double error = 0;
};

// Between the start's own code and the ideal one, on the start's side of the
// rounding border: what is undecided may flip early.
at::Tensor continuous_codes(const at::Tensor& ideal, const Start& start,
                            const Grid& grid) {
  const at::Tensor position =
      (in_groups(ideal, grid) / start.fit.scales.unsqueeze(-1) +
       start.fit.zeros.unsqueeze(-1))
          .view_as(ideal);
  return start.codes + (position - start.codes).clamp(-0.49, 0.49);
}

void set_rates(torch::optim::Adam& adam, const AdaquantOptions& options,
               std::int64_t step) {
  const double share =
      static_cast<double>(step) / static_cast<double>(options.iterations);
  const double factor = 0.5 * (1 + std::cos(std::numbers::pi * share));
  const double rates[] = {options.code_rate, options.scale_rate};
  for (std::size_t i = 0; i < adam.param_groups().size(); ++i)
    adam.param_groups()[i].options().set_lr(rates[i] * factor);
}

}  // namespace

at::Tensor adaquant_loss(const at::Tensor& changed, const at::Tensor& target,
                         const Moments& moments) {
  return ((at::mm(changed, moments.compressed) - 2 * target) * changed).sum() /
         moments.tokens;
}

at::Tensor soft_dequantize(const at::Tensor& codes, const at::Tensor& log_scales,
                           const at::Tensor& zeros, const Grid& grid) {
  const at::Tensor rounded =
      through(codes, codes.round())
          .clamp(0, static_cast<double>(grid.levels()));
  const at::Tensor scales = log_scales.exp();
  const at::Tensor stored =
      through(scales, scales.to(grid.scale_dtype).to(at::kFloat));
  return ((in_groups(rounded, grid) - zeros.unsqueeze(-1)) *
          stored.unsqueeze(-1))
      .view_as(codes);
}

AdaquantResult adaquant(const at::Tensor& weight, const Grid& grid,
                        const SplitMoments& moments,
                        const AdaquantOptions& options,
                        const std::function<void()>& tick) {
  const at::Tensor wide = weight.to(at::kFloat);
  const Moments& fit_on = moments.fit;
  const auto error_of = [&](const at::Tensor& codes, const GridFit& fit) {
    return relative_error(wide, dequantize(codes, fit, grid), moments.held_out);
  };
  Start start;
  start.fit = fit_min_max(wide, grid);
  start.codes = nearest_codes(wide, start.fit, grid);
  start.error = error_of(start.codes, start.fit);
  AdaquantResult out;
  out.error_rtn = start.error;
  const auto consider = [&](const at::Tensor& codes, const GridFit& fit) {
    const double error = error_of(codes, fit);
    if (error < start.error) start = {codes, fit, error};
  };

  // The unrounded optimum: W itself where the streams agree, else what makes up
  // for the error of earlier layers.
  const double mean = fit_on.compressed.diagonal().mean().item<double>();
  const at::Tensor target = at::mm(wide, fit_on.cross);
  at::Tensor ideal = wide;
  if (mean > 0 && (options.error_feedback || options.iterations > 0)) {
    const at::Tensor ridge =
        at::eye(wide.size(1), wide.options()) * (0.01 * mean);
    ideal = solve_spd(fit_on.compressed + ridge,
                      (target + wide * (0.01 * mean)).t())
                .t()
                .to(at::kFloat)
                .contiguous();
  }
  for (const at::Tensor& base : {wide, ideal}) {
    GridFit fit = start.fit;
    if (options.scale_search) {
      fit = fit_least_error(base, fit_on.compressed.diagonal(), grid);
      consider(nearest_codes(base, fit, grid), fit);
    }
    if (options.error_feedback)
      consider(feedback_codes(base, fit, grid, fit_on.compressed), fit);
    if (base.is_same(ideal)) break;
  }
  out.codes = start.codes;
  out.fit = start.fit;
  out.error = out.error_start = start.error;
  if (options.iterations == 0) return out;

  const at::AutoGradMode with_gradients(true);
  at::Tensor codes = continuous_codes(ideal, start, grid).detach().clone();
  at::Tensor log_scales = start.fit.scales.log().detach().clone();
  codes.requires_grad_(true);
  log_scales.requires_grad_(true);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (at::Tensor* parameter : {&codes, &log_scales})
    groups.emplace_back(std::vector<at::Tensor>{*parameter},
                        std::make_unique<torch::optim::AdamOptions>(1e-3));
  torch::optim::Adam adam(groups, torch::optim::AdamOptions(1e-3));
  // The loss in units of the target's energy: Adam's steps do not depend on
  // its scale, but its epsilon does.
  const double energy =
      (at::mm(wide, fit_on.original) * wide).sum().item<double>() /
          fit_on.tokens +
      1e-30;
  for (std::int64_t step = 0; step < options.iterations; ++step) {
    tick();
    set_rates(adam, options, step);
    adam.zero_grad();
    const at::Tensor loss =
        adaquant_loss(soft_dequantize(codes, log_scales, start.fit.zeros, grid),
                      target, fit_on) /
        energy;
    loss.backward();
    adam.step();
    const bool last = step + 1 == options.iterations;
    if (step % 20 != 19 && !last) continue;
    const at::NoGradGuard no_grad;
    GridFit fit = start.fit;
    fit.scales = log_scales.exp().to(grid.scale_dtype).to(at::kFloat);
    const at::Tensor hard =
        codes.round().clamp(0, static_cast<double>(grid.levels()));
    const double error = error_of(hard, fit);
    if (error < out.error) {
      out.codes = hard.detach().clone();
      out.fit = fit;
      out.error = error;
    }
  }
  return out;
}

}  // namespace autoglm
