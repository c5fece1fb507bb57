// AdaQuant (Hubara et al., arXiv 2006.10518), sequential form, for one matrix:
//
//   min over U, s of || W X - Q(U, s) Z ||^2
//
// X are the original network's inputs, Z those of the network quantized so far.
// Q(U, s) = s * (clamp(round(U)) - zero) with straight-through gradients, U the
// continuous codes and s one scale per row and group. Differences from the
// paper's code, each because it lowers the error on language models: the loss
// is taken from second moments (full batch, exact); U moves in units of grid
// steps; the start is the best of nearest rounding, of a range search weighted
// by the inputs, and of error feedback; the learning rate falls to 0; and the
// best point on held-out data is kept, which may be the start.
#pragma once

#include <cstdint>

#include "passes/layer_moments.h"
#include "passes/quantization/quantizer.h"

namespace autoglm {

struct AdaquantOptions {
  std::int64_t iterations = 200;
  double code_rate = 0.02;    // Adam step of U, in grid steps
  double scale_rate = 0.001;  // Adam step of log s
  bool scale_search = true;
  bool error_feedback = true;
};

struct AdaquantResult {
  at::Tensor codes;
  GridFit fit;
  double error_rtn = 0;    // held out, relative: plain nearest rounding
  double error_start = 0;  // the best start
  double error = 0;        // what is returned; never above error_rtn
};

/// weight: [out, in]. Runs on the moments' device. `tick` is called once per
/// iteration (progress, interruption).
AdaquantResult adaquant(const at::Tensor& weight, const Grid& grid,
                        const SplitMoments& moments,
                        const AdaquantOptions& options,
                        const std::function<void()>& tick = [] {});

/// The loss above without its constant part, differentiable: tr(V Szz V') -
/// 2 tr(W Sxz V'), per token. target: W Sxz [out, in].
at::Tensor adaquant_loss(const at::Tensor& changed, const at::Tensor& target,
                         const Moments& moments);

/// s * (clamp(round(U), 0, 2^b - 1) - zero) with straight-through gradients.
/// codes: [out, in]; log_scales: [out, groups].
at::Tensor soft_dequantize(const at::Tensor& codes, const at::Tensor& log_scales,
                           const at::Tensor& zeros, const Grid& grid);

}  // namespace autoglm
