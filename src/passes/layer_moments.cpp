#include "passes/layer_moments.h"

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

const at::Tensor& site_input(const BlockInputs& inputs, Site site) {
  switch (site) {
    case Site::kAttention: return inputs.attention;
    case Site::kOutput: return inputs.output;
    case Site::kMlp: return inputs.mlp;
    case Site::kDown: return inputs.down;
  }
  return inputs.down;
}

double quadratic(const at::Tensor& a, const at::Tensor& moments,
                 const at::Tensor& b) {
  return (at::mm(a, moments) * b).sum(at::kDouble).item<double>();
}

}  // namespace

void Moments::add(const at::Tensor& x, const at::Tensor& z) {
  const at::Tensor flat_x = x.reshape({-1, x.size(-1)}).to(at::kFloat);
  const at::Tensor flat_z =
      x.is_same(z) ? flat_x : z.reshape({-1, z.size(-1)}).to(at::kFloat);
  const auto accumulate = [](at::Tensor& sum, const at::Tensor& a,
                             const at::Tensor& b) {
    if (sum.defined()) sum.addmm_(a.t(), b);
    else sum = at::mm(a.t(), b);
  };
  accumulate(original, flat_x, flat_x);
  accumulate(cross, flat_x, flat_z);
  accumulate(compressed, flat_z, flat_z);
  tokens += static_cast<double>(flat_x.size(0));
}

std::size_t held_out_batches(std::size_t batches) {
  return batches < 2 ? 0 : std::max<std::size_t>(1, batches / 10);
}

SplitMoments collect_moments(const Model& model, const BlockVisit& visit,
                             const Block& working, Site site) {
  const std::size_t batches = visit.original_input.size();
  const std::size_t fitted = batches - held_out_batches(batches);
  SplitMoments out;
  for (std::size_t i = 0; i < batches; ++i) {
    // Both streams over one batch at a time: nothing larger is kept.
    const auto inputs_of = [&](const Block& block, const at::Tensor& input) {
      at::Tensor found;
      run_block(model, block, visit.layer, {input}, {visit.contexts[i]},
                [&](std::size_t, const BlockInputs& inputs) {
                  found = site_input(inputs, site);
                });
      return found;
    };
    const at::Tensor x = inputs_of(visit.original, visit.original_input[i]);
    const at::Tensor z = inputs_of(working, visit.compressed_input[i]);
    (i < fitted ? out.fit : out.held_out).add(x, z);
  }
  if (!out.held_out.original.defined()) out.held_out = out.fit;
  return out;
}

double relative_error(const at::Tensor& original, const at::Tensor& changed,
                      const Moments& moments) {
  const double target = quadratic(original, moments.original, original);
  const double error = target -
                       2 * quadratic(original, moments.cross, changed) +
                       quadratic(changed, moments.compressed, changed);
  return target > 0 ? std::max(0.0, error) / target : 0;
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
