// Latency of generation, measured as DESIGN says: medians after warm-up, two
// models interleaved A B A B, wall clock on a CPU, CUDA events on a GPU.
#pragma once

#include <vector>

#include "autoglm/eval/scorecard.h"
#include "autoglm/model/model.h"

namespace autoglm {

struct LatencyOptions {
  std::int64_t prompt = 512;    // P tokens of the prompt
  std::int64_t generate = 128;  // decode steps per repeat
  std::int64_t batch = 1;
  std::int64_t repeats = 5;  // measured rounds, after one warm-up round
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  std::uint64_t seed = 0;  // of the random prompt
};

/// One Latency per model, in order; every round measures each model once.
std::vector<Latency> measure_latency(const std::vector<const Model*>& models,
                                     const LatencyOptions& options);

}  // namespace autoglm
