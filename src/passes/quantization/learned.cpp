#include "passes/quantization/learned.h"

#include <ATen/core/grad_mode.h>

namespace autoglm {
namespace {

// A leaf for optimizers.
at::Tensor parameter(const at::Tensor& start) {
  return start.detach().to(at::kFloat).clone().requires_grad_(true);
}

}  // namespace

LearnedMatrix::LearnedMatrix(const Rounded& start, const Grid& grid)
    : grid_(grid),
      signs_(start.fit.scales.sign()),
      middle_(start.fit.zeros),
      log_scales_(parameter(start.fit.scales.abs().log())) {
  const at::Tensor& at_start =
      start.positions.defined() ? start.positions : start.codes;
  base_ = (in_groups(at_start.to(at::kFloat), grid) -
           start.fit.zeros.unsqueeze(-1)) *
          start.fit.scales.unsqueeze(-1);
  moves_ = parameter(at::zeros_like(at_start, at::kFloat));
  if (!grid.symmetric) zeros_ = parameter(start.fit.zeros);
}

at::Tensor LearnedMatrix::scales() const {
  return storable_scales(log_scales_.detach().exp() * signs_);
}

at::Tensor LearnedMatrix::zero_points() const {
  return zeros_.defined() ? zeros_.detach().round() : middle_;
}

at::Tensor LearnedMatrix::positions() const {
  return (base_ / scales().unsqueeze(-1))
      .add_(zero_points().unsqueeze(-1))
      .add_(in_groups(moves_.detach(), grid_));
}

Rounded LearnedMatrix::rounded() const {
  return {positions()
              .round_()
              .clamp_(0, static_cast<double>(grid_.levels()))
              .view_as(moves_),
          {scales(), zero_points()}};
}

void LearnedMatrix::set_gradients(const at::Tensor& of_value,
                                  const at::Tensor& value) {
  const at::NoGradGuard no_grad;
  const at::Tensor where = positions().round_();
  const at::Tensor inside =
      at::logical_and(where >= 0, where <= static_cast<double>(grid_.levels()))
          .to(at::kFloat);
  const at::Tensor grouped = in_groups(of_value, grid_);
  const at::Tensor scale = scales();
  moves_.mutable_grad() =
      (grouped * inside * scale.unsqueeze(-1)).view_as(moves_);
  log_scales_.mutable_grad() =
      (grouped * (in_groups(value, grid_) - base_ * inside)).sum(-1);
  if (zeros_.defined())
    zeros_.mutable_grad() = (grouped * (inside - 1)).sum(-1) * scale;
}

void LearnedMatrix::settle() {
  const at::NoGradGuard no_grad;
  moves_.clamp_(-1, 1);
  if (zeros_.defined()) zeros_.clamp_(0, static_cast<double>(grid_.levels()));
}

LearnedScales::LearnedScales(const QuantizedWeight& start)
    : start_(start),
      signs_(start.scales.to(at::kFloat).sign()),
      log_scales_(parameter(start.scales.to(at::kFloat).abs().log())) {}

QuantizedWeight LearnedScales::packed() const {
  QuantizedWeight out = start_;
  out.scales = storable_scales(log_scales_.detach().exp() * signs_)
                   .to(start_.scales.scalar_type());
  return out;
}

void LearnedScales::set_gradients(const at::Tensor& of_value,
                                  const at::Tensor& value) {
  log_scales_.mutable_grad() =
      (of_value * value).view({start_.out, -1, start_.group_size}).sum(-1);
}

LearnedVector::LearnedVector(const at::Tensor& start, Unit unit)
    : start_(start), moves_(parameter(at::zeros_like(start, at::kFloat))) {
  const at::Tensor size = start.detach().to(at::kFloat).abs();
  unit_ = unit == Unit::kEntry ? size : size.mean();
}

at::Tensor LearnedVector::stored() const {
  return (start_.to(at::kFloat) + unit_ * moves_.detach())
      .to(start_.scalar_type());
}

void LearnedVector::set_gradients(const at::Tensor& of_value) {
  moves_.mutable_grad() = of_value.to(at::kFloat) * unit_;
}

}  // namespace autoglm
