// AdaQuant (arXiv 2006.10518) with a whole block as its unit: codes, scales,
// zero points, norm gains and biases of all matrices of a block learn together
// what the original block returns, from the inputs that the model compressed so
// far feeds it:
//
//   min | block(original inputs) - quantized block(compressed inputs) |^2
//
// over the tokens of the calibration windows (block_loss.h), as in BRECQ (arXiv
// 2102.05426) and EfficientQAT's first phase (arXiv 2407.11062). Steps follow
// the sign of the gradient (AutoRound, arXiv 2309.05516) or Adam, at a rate
// that falls to 0. What is best on held-out windows is kept, which may be the
// start.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "autoglm/core/json.h"
#include "passes/quantization/block_loss.h"
#include "passes/quantization/learned_block.h"

namespace autoglm {

struct TunerOptions {
  std::int64_t iterations = 200;
  bool sign = true;            // else Adam
  double code_rate = 0.005;    // in grid steps
  double scale_rate = 0.005;   // of log s
  double zero_rate = 0.005;    // in grid steps
  double vector_rate = 0.005;  // norm gains and biases, in shares of their size
  std::uint64_t seed = 0;
};

/// `block`: the block with every matrix rounded as it starts; those of
/// `starts`, by name below the block, learn, the others stay as they are.
/// `batches`: that the loss knows. `note` gets the losses and the steps. `tick`
/// is called once per step.
Block tune_block(
    const BlockLoss& loss, std::size_t batches, const Block& block,
    const std::map<std::string, LearningStart>& starts,
    const TunerOptions& options, Json& note,
    const std::function<void()>& tick = [] {});

}  // namespace autoglm
