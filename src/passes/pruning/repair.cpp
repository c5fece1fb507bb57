#include "passes/pruning/repair.h"

#include <map>

#include "passes/pruning/coupled_rows.h"

namespace autoglm {
namespace {

// A matrix beside a column that multiplies the constant 1.
at::Tensor with_column(const at::Tensor& matrix, const at::Tensor& column) {
  return at::cat({matrix, column.unsqueeze(1)}, 1);
}

}  // namespace

RepairKind repair_named(const std::string& name) {
  static const std::map<std::string, RepairKind> all = {
      {"none", RepairKind::kNone},
      {"bias", RepairKind::kBias},
      {"least_squares", RepairKind::kLeastSquares}};
  return all.at(name);
}

Repair repair_columns(const at::Tensor& weight, const at::Tensor& kept,
                      const SplitMoments& moments, RepairKind kind,
                      bool with_bias) {
  const at::ScalarType dtype = weight.scalar_type();
  // A bias is the weight of one more input, which is always 1.
  const bool biased = kind == RepairKind::kBias ||
                      (kind == RepairKind::kLeastSquares && with_bias);
  const Moments fit = biased ? moments.fit.with_constant() : moments.fit;
  at::Tensor wide = weight.to(at::kFloat);
  if (moments.fit.sum.size(0) > weight.size(1))
    wide = at::cat({wide, at::eye(weight.size(0), wide.options())}, 1);
  const std::int64_t constant = wide.size(1);
  if (biased)
    wide = with_column(wide, at::zeros({weight.size(0)}, wide.options()));
  const at::Tensor columns =
      biased ? at::cat({kept, at::full({1}, constant, kept.options())}) : kept;
  const at::Tensor cut = wide.index_select(1, columns);
  const LayerError error(
      wide, biased ? moments.held_out.with_constant() : moments.held_out);
  // What is cut counts as zero.
  const auto error_of = [&](const at::Tensor& values) {
    const at::Tensor full =
        at::zeros_like(wide).index_copy(1, columns, values.to(at::kFloat));
    return error.relative(full);
  };
  Repair best;
  best.weight = weight.index_select(1, kept).contiguous();
  best.error_before = best.error_after = error_of(cut);
  const auto offer = [&](const at::Tensor& values, double ridge) {
    const at::Tensor rounded = values.to(dtype);
    const double error_now = error_of(rounded);
    if (!(error_now < best.error_after)) return;
    best.weight = rounded.narrow(1, 0, kept.size(0)).contiguous();
    if (biased) best.bias = rounded.select(1, kept.size(0)).contiguous();
    best.error_after = error_now;
    best.ridge = ridge;
  };
  if (kind == RepairKind::kNone) return best;
  const at::Tensor inputs =
      fit.compressed.index_select(0, columns).index_select(1, columns);
  const at::Tensor target = at::mm(wide, fit.cross().index_select(1, columns));
  if (kind == RepairKind::kBias) {
    const std::int64_t last = kept.size(0);
    at::Tensor values = cut.clone();
    values.select(1, last).copy_(
        (target.select(1, last) - at::mv(cut, inputs.select(1, last))) /
        fit.tokens);
    offer(values, 0);
    return best;
  }
  const double mean =
      inputs.diagonal().narrow(0, 0, kept.size(0)).mean().item<double>();
  if (!(mean > 0)) return best;  // inputs that are all zero teach nothing
  at::Tensor pull = at::ones({columns.size(0)}, inputs.options());
  if (biased) pull[kept.size(0)] = 0;  // means are known well enough
  for (const double ridge : {1e-4, 1e-3, 1e-2, 1e-1}) {
    const at::Tensor r = pull * (ridge * mean);
    offer(solve_spd(inputs + r.diag(), (target + cut * r).t()).t(), ridge);
  }
  return best;
}

std::optional<Repair> keep_columns(Linear& linear, const at::Tensor& kept,
                                   const SplitMoments* moments, RepairKind kind,
                                   bool new_biases) {
  const at::Tensor weight = std::get<DenseWeight>(linear.weight).value;
  if (moments == nullptr) {
    linear.weight = DenseWeight{pick(weight, 1, kept)};
    return {};
  }
  Repair repair = repair_columns(weight, kept, *moments, kind,
                                 new_biases || linear.bias.defined());
  linear.weight = DenseWeight{repair.weight};
  if (repair.bias.defined())
    linear.bias =
        linear.bias.defined() ? linear.bias + repair.bias : repair.bias;
  return repair;
}

}  // namespace autoglm
