// AdaQuant (Hubara et al., arXiv 2006.10518), sequential form, for one matrix:
//
//   min over U, s, z, b of || W X + b0 - Q(U, s, z) Z - b ||^2
//
// X are the original network's inputs, Z those of the network quantized so far.
// Q (learned.h) has continuous codes U, and a scale s and zero point z per row
// and group. Differences from the paper's code, each because it lowers the
// error on language models: the loss is taken from second moments (full batch,
// exact); a bias, where there is one, is always the best one for Q (the moments
// are then taken about the means); U moves in units of grid steps; the start is
// the best of nearest rounding, of a range search weighted by the inputs, and
// of error feedback; the error is measured by what it costs the predictions
// (output_fisher.h); coordinate descent over codes and scales (descent.h) runs
// before and after Adam, whose small steps seldom carry a code over a rounding
// border by themselves; the learning rate falls to 0; and what is best on
// held-out data is kept, which may be the start.
#pragma once

#include <cstdint>
#include <functional>

#include "passes/layer_moments.h"
#include "passes/output_fisher.h"
#include "passes/quantization/quantizer.h"

namespace autoglm {

struct AdaquantOptions {
  std::int64_t iterations = 0;  // Adam steps
  std::int64_t sweeps = 20;     // of coordinate descent, before and after
  double code_rate = 0.005;     // Adam step of U, in grid steps
  double scale_rate = 0.0005;   // Adam step of log s and of z
  bool scale_search = true;
  bool error_feedback = true;
};

/// Errors are relative (LayerError, with the metric over the outputs where it
/// is given) on the held-out moments.
struct AdaquantResult {
  Rounded rounded;
  at::Tensor bias;           // [out]; undefined where there was none
  double error_rtn = 0;      // plain nearest rounding
  double error_start = 0;    // the best start
  double error_descent = 0;  // after coordinate descent
  double error = 0;          // what is returned; never above error_rtn
};

/// weight: [out, in]; bias: [out] or undefined; outputs: how much errors of the
/// outputs matter, empty: all alike. Runs on the moments' device, rows in parts
/// that bound the memory. `tick` is called once per iteration (progress,
/// interruption).
AdaquantResult adaquant(
    const at::Tensor& weight, const at::Tensor& bias, const Grid& grid,
    const SplitMoments& moments, const AdaquantOptions& options,
    const OutputMetric& outputs = {},
    const std::function<void()>& tick = [] {});

}  // namespace autoglm
