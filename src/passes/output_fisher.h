// What an error at the output of a matrix costs the model's predictions, to
// second order:
//
//   KL(original || changed) ~ 1/2 sum over tokens of e' F e,   F = E[g g']
//
// with e the error of the output and g the gradient of -log p(y) there, y drawn
// from the original's own predictions (Fisher information). F is approximated
// as one matrix S over the outputs times one number per token (K-FAC, arXiv
// 1503.05671; for quantization YAQA, arXiv 2505.22988, and GuidedQuant, arXiv
// 2505.07004). Rounding errors may then be large where nothing depends on them,
// and those of several rows may make up for each other.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "autoglm/model/forward.h"

namespace autoglm {

/// S of one matrix [out, in]: blocks on its diagonal, each [b, b] fp32 with all
/// b alike but the last; positive definite, with a mean diagonal of 1 before
/// damping. One block up to 4096 outputs, blocks of 1024 beyond.
using OutputMetric = std::vector<at::Tensor>;

struct BlockFisher {
  std::map<std::string, OutputMetric> outputs;  // by name below the block
  /// Weights of the tokens [windows, T] fp32, of mean 1: the mean over the
  /// site's matrices of |g|^2.
  std::map<Site, at::Tensor> tokens;
  /// The same for the output of the block.
  OutputMetric block_output;
  at::Tensor block_tokens;
};

struct FisherOptions {
  std::int64_t batch = 8;  // windows at once
  std::uint64_t seed = 0;  // of the labels drawn
  /// Which matrices, by canonical name; those of routed experts are never
  /// asked for.
  std::function<bool(const std::string&)> wanted;
};

/// One entry per block, from one pass backward over windows [windows, T] with
/// `prefix` tokens before each text. Blocks without a wanted matrix stay empty.
/// `tick` is called once per batch. Throws kNumeric where gradients are not
/// finite.
std::vector<BlockFisher> output_fisher(
    const Model& model, const at::Tensor& windows, std::int64_t prefix,
    const FisherOptions& options, const std::function<void()>& tick = [] {});

}  // namespace autoglm
