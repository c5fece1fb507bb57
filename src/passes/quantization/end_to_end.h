// The last phase of AdaQuant for language models: with all codes fixed, the
// scales of every packed matrix of the blocks, the norm gains and the biases
// are fitted to the original model's predictions,
//
//   min KL( original || quantized ), mean over the text positions
//
// (EfficientQAT's second phase, arXiv 2407.11062, with the original instead of
// the next token as teacher; AdaQuant's bias tuning, arXiv 2006.10518, does the
// same for biases). Backward passes go block by block, each computed again from
// its kept input, so that one block's floating point weights are alive.
#pragma once

#include <cstdint>
#include <functional>

#include "autoglm/core/json.h"
#include "autoglm/model/walk.h"
#include "autoglm/passes/pass.h"

namespace autoglm {

struct EndToEndOptions {
  std::int64_t steps = 0;
  double rate = 1e-3;      // Adam's, of log scales and shares of vectors
  double code_rate = 0;    // Adam's, in grid steps; 0: the codes stay
  std::int64_t batch = 8;  // windows, as those of `taught`
  std::uint64_t seed = 0;
};

/// `taught`: the original's stream after its last block, one tensor per `batch`
/// calibration windows. Held-out windows judge; without a gain `model` stays as
/// it is. `note` gets the divergences before and after.
void tune_end_to_end(
    Model& model, const Model& original, const Stream& taught,
    const PassContext& context, const EndToEndOptions& options, Json& note,
    const std::function<void()>& tick = [] {});

}  // namespace autoglm
