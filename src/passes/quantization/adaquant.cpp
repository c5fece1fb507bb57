#include "passes/quantization/adaquant.h"

#include <ATen/core/grad_mode.h>
#include <torch/optim/adam.h>

#include <cmath>
#include <numbers>
#include <optional>
#include <vector>

#include "passes/quantization/descent.h"
#include "passes/quantization/gptq.h"
#include "passes/quantization/learned.h"

namespace autoglm {
namespace {

// What all rows of a matrix share.
struct Shared {
  const SplitMoments& moments;
  at::Tensor ideal;  // W times this is the unrounded optimum; or undefined
  std::optional<Feedback> feedback;
};

Shared prepare(const SplitMoments& moments, const AdaquantOptions& options) {
  Shared out = {moments, {}, {}};
  const Moments& fit = moments.fit;
  const double mean = fit.compressed.diagonal().mean().item<double>();
  if (!(mean > 0) || !options.error_feedback) return out;
  // W itself where the streams agree, else what makes up for the error of
  // earlier layers.
  const at::Tensor ridge =
      at::eye(fit.compressed.size(0), fit.compressed.options()) * (0.01 * mean);
  out.ideal = solve_spd(fit.compressed + ridge, (fit.cross() + ridge).t())
                  .t()
                  .to(at::kFloat)
                  .contiguous();
  out.feedback = make_feedback(fit.compressed);
  return out;
}

// The codes and scales of some rows of a matrix, better step by step; the best
// on held-out data is remembered.
class Fitter {
 public:
  // `outputs`: S of these rows, or undefined.
  Fitter(const at::Tensor& weight, const Grid& grid, const Shared& shared,
         const at::Tensor& outputs)
      : weight_(weight),
        grid_(grid),
        shared_(shared),
        outputs_(outputs),
        fitted_(weight, shared.moments.fit, outputs),
        held_out_(weight, shared.moments.held_out, outputs) {
    const GridFit fit = fit_min_max(weight, grid);
    best_ = {nearest_codes(weight, fit, grid), fit};
    error_ = error_of(best_);
  }

  double energy() const { return held_out_.energy(); }
  double error() const { return error_; }
  const Rounded& best() const { return best_; }

  void start(const AdaquantOptions& options);
  void descend(Rounded from, std::int64_t sweeps);
  void learn(const AdaquantOptions& options, const std::function<void()>& tick);

 private:
  double error_of(const Rounded& rounded) const {
    return held_out_.relative(dequantize(rounded, grid_));
  }
  void consider(const Rounded& rounded) {
    const double error = error_of(rounded);
    if (!(error < error_)) return;
    error_ = error;
    best_ = rounded;
  }

  const at::Tensor& weight_;
  const Grid& grid_;
  const Shared& shared_;
  at::Tensor outputs_;
  const LayerError fitted_, held_out_;
  Rounded best_;
  double error_ = 0;
};

void Fitter::start(const AdaquantOptions& options) {
  std::vector<at::Tensor> bases = {weight_};
  if (shared_.ideal.defined()) bases.push_back(at::mm(weight_, shared_.ideal));
  const GridFit full = best_.fit;
  const Moments& moments = shared_.moments.fit;
  for (const at::Tensor& base : bases) {
    GridFit fit = full;
    if (options.scale_search) {
      fit = fit_least_error(base, moments.compressed.diagonal(), grid_);
      consider({nearest_codes(base, fit, grid_), fit});
    }
    if (shared_.feedback)
      consider(round_with_feedback(base, fit, grid_, *shared_.feedback));
  }
}

void Fitter::descend(Rounded from, std::int64_t sweeps) {
  if (sweeps > 0) from.positions = at::Tensor();  // codes move on from them
  const Moments& moments = shared_.moments.fit;
  at::Tensor gradient = fitted_.half_gradient(dequantize(from, grid_));
  for (std::int64_t sweep = 0; sweep < sweeps; ++sweep) {
    const bool codes =
        descend_codes(from, grid_, moments.compressed, gradient, outputs_);
    const bool scales =
        descend_scales(from, grid_, moments.compressed, gradient, outputs_);
    consider(from);
    if (!codes && !scales) break;
  }
}

void Fitter::learn(const AdaquantOptions& options,
                   const std::function<void()>& tick) {
  Rounded start = best_;
  start.positions = at::Tensor();
  LearnedMatrix learned(start, grid_);
  torch::optim::Adam adam(
      std::vector<torch::optim::OptimizerParamGroup>{
          {std::vector<at::Tensor>{learned.moves()}},
          {learned.zeros().defined()
               ? std::vector<at::Tensor>{learned.log_scales(), learned.zeros()}
               : std::vector<at::Tensor>{learned.log_scales()}}},
      torch::optim::AdamOptions(1e-3));
  // In units of the target's energy: Adam's steps do not depend on the loss's
  // scale, but its epsilon does.
  const double energy = fitted_.energy() + 1e-30;
  for (std::int64_t step = 0; step < options.iterations; ++step) {
    tick();
    const double share =
        static_cast<double>(step) / static_cast<double>(options.iterations);
    const double factor = 0.5 * (1 + std::cos(std::numbers::pi * share));
    adam.param_groups()[0].options().set_lr(options.code_rate * factor);
    adam.param_groups()[1].options().set_lr(options.scale_rate * factor);
    const at::Tensor value = learned.value();
    const at::Tensor half = fitted_.half_gradient(value);
    learned.set_gradients(
        (outputs_.defined() ? at::mm(outputs_, half) : half) * (2 / energy),
        value);
    adam.step();
    learned.settle();
    if (step % 20 == 19) consider(learned.rounded());
  }
  consider(learned.rounded());
  descend(learned.rounded(), options.sweeps);
}

// The best bias [out] for `rounded` in place of `bias`, on the fitted tokens.
at::Tensor fitted_bias(const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& quantized, const Moments& moments) {
  at::Tensor shift = at::mv(weight - quantized, moments.sum);
  if (moments.has_drift()) shift = shift - at::mv(weight, moments.drift_sum);
  return bias.to(at::kFloat) + shift / moments.tokens;
}

}  // namespace

AdaquantResult adaquant(const at::Tensor& weight, const at::Tensor& bias,
                        const Grid& grid, const SplitMoments& given,
                        const AdaquantOptions& options,
                        const OutputMetric& outputs,
                        const std::function<void()>& tick) {
  const at::NoGradGuard no_grad;
  const bool learns_bias =
      bias.defined() && (options.iterations > 0 || options.sweeps > 0);
  const SplitMoments moments =
      learns_bias ? SplitMoments{given.fit.centred(), given.held_out.centred()}
                  : given;
  const Shared shared = prepare(moments, options);
  AdaquantResult out;
  double energy = 0;
  std::size_t part = 0;
  const auto round = [&](const at::Tensor& rows) {
    Fitter fitter(rows, grid, shared,
                  outputs.empty() ? at::Tensor() : outputs[part++]);
    const double share = fitter.energy();
    energy += share;
    out.error_rtn += share * fitter.error();
    fitter.start(options);
    out.error_start += share * fitter.error();
    fitter.descend(fitter.best(), options.sweeps);
    out.error_descent += share * fitter.error();
    if (options.iterations > 0) fitter.learn(options, tick);
    out.error += share * fitter.error();
    return fitter.best();
  };
  out.rounded =
      by_rows(weight, round, outputs.empty() ? 0 : outputs[0].size(0));
  if (energy > 0)
    for (double* error :
         {&out.error_rtn, &out.error_start, &out.error_descent, &out.error})
      *error /= energy;
  out.bias = bias;
  if (learns_bias)
    out.bias = fitted_bias(weight.to(at::kFloat), bias,
                           dequantize(out.rounded, grid), given.fit)
                   .to(bias.scalar_type());
  return out;
}

}  // namespace autoglm
