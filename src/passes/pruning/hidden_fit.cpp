#include "passes/pruning/hidden_fit.h"

#include "passes/pruning/coupled_rows.h"

namespace autoglm {
namespace {

constexpr double kRidges[] = {1e-4, 1e-3, 1e-2, 1e-1};

at::Tensor square_part(const at::Tensor& moments, const at::Tensor& columns) {
  return moments.index_select(0, columns).index_select(1, columns);
}

// values [out, n] at the places of their columns in [out, H].
at::Tensor spread(const at::Tensor& values, const at::Tensor& columns,
                  const at::Tensor& like) {
  return at::zeros_like(like).index_copy(1, columns, values.to(at::kFloat));
}

}  // namespace

HiddenFit::HiddenFit(SplitMoments moments, at::Tensor kept, RepairKind kind,
                     bool new_biases)
    : moments_(std::move(moments)),
      kept_(std::move(kept)),
      kind_(kind),
      new_biases_(new_biases) {}

const HiddenFit::Guesses& HiddenFit::guesses(bool biased) {
  Guesses& own = biased ? with_bias_ : plain_;
  if (own.empty()) own = solve(biased);
  return own;
}

HiddenFit::Guesses HiddenFit::solve(bool biased) const {
  const Moments fit = biased ? moments_.fit.with_constant() : moments_.fit;
  const std::int64_t all = fit.sum.size(0), stay = kept_.size(0);
  const at::Tensor columns =
      biased ? at::cat({kept_, at::full({1}, all - 1, kept_.options())})
             : kept_;
  const at::Tensor pick_back =
      at::eye(all, fit.sum.options()).index_select(1, columns);
  if (kind_ == RepairKind::kBias) {
    // What the channels that went are on average.
    at::Tensor guess = pick_back.clone();
    guess.select(1, stay)
        .narrow(0, 0, all - 1)
        .copy_(-moments_.fit.drift_sum / moments_.fit.tokens);
    return {guess};
  }
  const at::Tensor inputs = square_part(fit.compressed, columns);
  const double mean =
      inputs.diagonal().narrow(0, 0, stay).mean().item<double>();
  if (!(mean > 0)) return {pick_back};  // zeros teach nothing
  const at::Tensor cross = fit.cross().index_select(1, columns);
  at::Tensor pull = at::ones({columns.size(0)}, inputs.options());
  if (biased) pull[stay] = 0;  // means are known well enough
  Guesses out;
  for (const double ridge : kRidges) {
    const at::Tensor r = pull * (ridge * mean);
    out.push_back(solve_spd(inputs + r.diag(), (cross + pick_back * r).t())
                      .t()
                      .to(at::kFloat));
  }
  return out;
}

Linear HiddenFit::best(const at::Tensor& weight, const at::Tensor& bias,
                       bool biased) {
  const std::int64_t stay = kept_.size(0);
  const at::ScalarType dtype = weight.scalar_type();
  at::Tensor wide = weight.to(at::kFloat);
  at::Tensor columns = kept_;
  if (biased) {
    columns = at::cat({kept_, at::full({1}, wide.size(1), kept_.options())});
    wide = at::cat({wide, at::zeros({wide.size(0), 1}, wide.options())}, 1);
  }
  const LayerError error(
      wide, biased ? moments_.held_out.with_constant() : moments_.held_out);
  Linear out = {DenseWeight{pick(weight, 1, kept_)}, bias};
  double least =
      error.relative(spread(wide.index_select(1, columns), columns, wide));
  before_ += least;
  if (kind_ != RepairKind::kNone)
    for (const at::Tensor& guess : guesses(biased)) {
      const at::Tensor values = at::mm(wide, guess).to(dtype);
      const double now = error.relative(spread(values, columns, wide));
      if (!(now < least)) continue;
      least = now;
      out.weight = DenseWeight{values.narrow(1, 0, stay).contiguous()};
      if (!biased) continue;
      const at::Tensor added = values.select(1, stay);
      out.bias = bias.defined() ? bias + added : added.contiguous();
    }
  after_ += least;
  count_ += 1;
  return out;
}

Linear HiddenFit::fitted(const Linear& linear) {
  const bool biased =
      kind_ == RepairKind::kBias || (kind_ == RepairKind::kLeastSquares &&
                                     (new_biases_ || linear.bias.defined()));
  return best(std::get<DenseWeight>(linear.weight).value, linear.bias, biased);
}

at::Tensor HiddenFit::fitted(const at::Tensor& weight) {
  if (kind_ == RepairKind::kBias) return pick(weight, 1, kept_);
  return std::get<DenseWeight>(best(weight, {}, false).weight).value;
}

at::Tensor fitted_gains(const at::Tensor& embedding,
                        const SplitMoments& moments, const at::Tensor& kept) {
  const at::Tensor wide = embedding.to(at::kFloat);
  const at::Tensor cut = wide.index_select(1, kept);
  const LayerError error(wide, moments.held_out);
  const auto error_of = [&](const at::Tensor& gains) {
    return error.relative(spread(cut * gains, kept, wide));
  };
  const at::Tensor inputs = square_part(moments.fit.compressed, kept);
  const at::Tensor products = at::mm(cut.t(), cut) * inputs;
  const at::Tensor target =
      at::mm(cut.t(), at::mm(wide, moments.fit.cross().index_select(1, kept)))
          .diagonal();
  const double mean = products.diagonal().mean().item<double>();
  at::Tensor best;
  double least = error_of(at::ones_like(target));
  if (!(mean > 0)) return best;
  for (const double ridge : kRidges) {
    const at::Tensor pull =
        at::full({target.size(0)}, ridge * mean, target.options());
    const at::Tensor gains =
        solve_spd(products + pull.diag(), (target + pull).unsqueeze(1))
            .squeeze(1)
            .to(at::kFloat);
    const double now = error_of(gains);
    if (!(now < least)) continue;
    least = now;
    best = gains;
  }
  return best;
}

}  // namespace autoglm
