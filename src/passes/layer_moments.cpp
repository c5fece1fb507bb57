#include "passes/layer_moments.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/model/dense_product.h"

namespace autoglm {
namespace {

double product_sum(const at::Tensor& a, const at::Tensor& b) {
  return (a * b).sum(at::kDouble).item<double>();
}

at::Tensor token_rows(const at::Tensor& x) {
  return x.reshape({-1, x.size(-1)}).to(at::kFloat);
}

// sum += a' b
void accumulate(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (sum.defined())
    sum.add_(inner_product(a, b));
  else
    sum = inner_product(a, b);
}

// sum += the rows of a
void accumulate(at::Tensor& sum, const at::Tensor& a) {
  const at::Tensor total = a.sum(0);
  sum = sum.defined() ? sum + total : total;
}

}  // namespace

void Moments::add(const at::Tensor& x, const at::Tensor& z,
                  const at::Tensor& weights) {
  const at::Tensor share =
      weights.defined() ? weights.reshape({-1, 1}).sqrt() : at::Tensor();
  const auto weighed = [&](const at::Tensor& rows) {
    return share.defined() ? rows * share : rows;
  };
  const at::Tensor rows = token_rows(z), own = weighed(rows);
  accumulate(compressed, own, own);
  accumulate(sum, weighed(own));
  tokens += share.defined() ? weights.sum(at::kDouble).item<double>()
                            : static_cast<double>(rows.size(0));
  if (!x.defined()) return;
  const at::Tensor e = weighed(rows - token_rows(x));
  accumulate(drift_cross, e, own);
  accumulate(drift, e, e);
  accumulate(drift_sum, weighed(e));
}

Moments Moments::centred() const {
  Moments out = *this;
  const auto about = [&](const at::Tensor& moments, const at::Tensor& a,
                         const at::Tensor& b) {
    return at::addr(moments, a, b, 1, -1 / tokens);
  };
  out.compressed = about(compressed, sum, sum);
  if (!has_drift()) return out;
  out.drift_cross = about(drift_cross, drift_sum, sum);
  out.drift = about(drift, drift_sum, drift_sum);
  return out;
}

Moments Moments::first(std::int64_t count) const {
  const auto part = [&](const at::Tensor& moments) {
    return moments.narrow(0, 0, count).narrow(1, 0, count);
  };
  Moments out = *this;
  out.compressed = part(compressed);
  out.sum = sum.narrow(0, 0, count);
  if (!has_drift()) return out;
  out.drift_cross = part(drift_cross);
  out.drift = part(drift);
  out.drift_sum = drift_sum.narrow(0, 0, count);
  return out;
}

Moments Moments::with_constant() const {
  const auto bordered = [](const at::Tensor& moments, const at::Tensor& right,
                           const at::Tensor& below, double corner) {
    const at::Tensor last =
        at::cat({below, at::full({1}, corner, below.options())});
    return at::cat(
        {at::cat({moments, right.unsqueeze(1)}, 1), last.unsqueeze(0)});
  };
  Moments out = *this;
  out.compressed = bordered(compressed, sum, sum, tokens);
  out.sum = at::cat({sum, at::full({1}, tokens, sum.options())});
  if (!has_drift()) return out;
  // The constant does not drift.
  const at::Tensor none = at::zeros_like(drift_sum);
  out.drift_cross = bordered(drift_cross, drift_sum, none, 0);
  out.drift = bordered(drift, none, none, 0);
  out.drift_sum = at::cat({drift_sum, at::zeros({1}, drift_sum.options())});
  return out;
}

std::size_t held_out_batches(std::size_t batches) {
  return batches < 2 ? 0 : std::max<std::size_t>(1, batches / 10);
}

std::size_t first_judged(std::size_t batches) {
  return batches < 2 ? 0 : batches - held_out_batches(batches);
}

SplitMoments split_moments(
    std::size_t batches,
    const std::function<std::pair<at::Tensor, at::Tensor>(std::size_t)>& inputs,
    const at::Tensor& weights) {
  const at::NoGradGuard no_grad;
  const std::size_t fitted = batches - held_out_batches(batches);
  std::int64_t window = 0;
  SplitMoments out;
  for (std::size_t i = 0; i < batches; ++i) {
    check_interrupted();
    const auto [x, z] = inputs(i);
    Moments& moments = i < fitted ? out.fit : out.held_out;
    at::Tensor own;
    if (weights.defined()) {
      const std::int64_t count = z.numel() / z.size(-1) / weights.size(1);
      own = weights.narrow(0, window, count);
      window += count;
    }
    moments.add(x, z, own);
  }
  if (out.held_out.empty()) out.held_out = out.fit;
  return out;
}

SplitMoments collect_moments(const Model& model, const BlockVisit& visit,
                             const Block& working, Site site, Streams streams,
                             const at::Tensor& weights) {
  // Both streams over one batch at a time: nothing larger is kept.
  const auto inputs = [&](std::size_t i) {
    return std::pair(
        streams == Streams::kCompressed
            ? at::Tensor()
            : site_input(model, visit.original, visit.layer,
                         visit.original_input[i], visit.original_contexts[i],
                         site),
        site_input(model, working, visit.layer, visit.compressed_input[i],
                   visit.compressed_contexts[i], site));
  };
  return split_moments(visit.original_input.size(), inputs, weights);
}

LayerError::LayerError(const at::Tensor& original, const Moments& moments,
                       const at::Tensor& outputs)
    : outputs_(outputs),
      original_(original),
      compressed_(moments.compressed),
      drift_(moments.has_drift() ? at::mm(original, moments.drift_cross)
                                 : at::Tensor()),
      drift_energy_(moments.has_drift() ? energy_of(original, moments.drift)
                                        : 0),
      energy_(energy_of(original, moments.original())) {}

at::Tensor LayerError::weighed(const at::Tensor& matrix) const {
  return outputs_.defined() ? at::mm(outputs_, matrix) : matrix;
}

// tr(S A M A')
double LayerError::energy_of(const at::Tensor& matrix,
                             const at::Tensor& moments) const {
  return product_sum(weighed(at::mm(matrix, moments)), matrix);
}

double LayerError::relative(const at::Tensor& changed) const {
  const at::Tensor change = changed - original_;
  double error = energy_of(change, compressed_);
  if (drift_.defined())
    error += drift_energy_ + 2 * product_sum(weighed(drift_), change);
  return energy_ > 0 ? std::max(0.0, error) / energy_ : 0;
}

at::Tensor LayerError::half_gradient(const at::Tensor& changed) const {
  const at::Tensor half = at::mm(changed - original_, compressed_);
  return drift_.defined() ? half + drift_ : half;
}

at::Tensor solve_spd(const at::Tensor& matrix, const at::Tensor& right) {
  const at::Tensor wide = matrix.to(at::kDouble);
  const double mean = wide.diagonal().mean().item<double>();
  double extra = 0;
  for (int attempt = 0; attempt < 8; ++attempt) {
    const at::Tensor padded =
        extra == 0 ? wide
                   : wide + at::eye(wide.size(0), wide.options()) * extra;
    const auto [factor, info] = at::linalg_cholesky_ex(padded);
    if (info.item<int>() == 0)
      return at::cholesky_solve(right.to(at::kDouble), factor);
    extra = extra == 0 ? 1e-8 * mean + 1e-30 : extra * 10;
  }
  fail(ErrorKind::kNumeric,
       "the moments of the calibration data cannot be factorized; they hold "
       "NaN or infinity, or the data is far too little");
}

}  // namespace autoglm
