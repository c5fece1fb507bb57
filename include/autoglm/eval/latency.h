// Latency of generation, measured as DESIGN says: medians after warm-up, two
// models interleaved A B A B, wall clock on a CPU, CUDA events on a GPU.
#pragma once

#include <vector>

#include "autoglm/eval/scorecard.h"
#include "autoglm/model/model.h"

namespace autoglm {

/// What is measured at one place.
struct LatencyPoint {
  /// P tokens of the prompt. Without `prefill`, tokens in the cache before the
  /// first decoded one, 0 or more: those of a short prompt, repeated, since
  /// time does not depend on what they say.
  std::int64_t prompt = 512;
  std::int64_t generate = 128;  // decode steps per round
  std::int64_t batch = 1;
  std::int64_t repeats = 5;  // measured rounds, after one warm-up round
  bool prefill = true, decode = true;  // at least one of them
  std::uint64_t seed = 0;              // of the random prompt
};

struct LatencyOptions : LatencyPoint {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  /// Of quantized matrices. Quality is measured with exact products; integer
  /// ones are what a user who is in a hurry runs.
  QuantizedProduct product = QuantizedProduct::kInteger;
};

/// Models made ready to be measured side by side.
class LatencyLab {
 public:
  /// Dense weights become `dtype`. Models that are moved here free their
  /// weights as these change their form. The copy bandwidth is measured here.
  LatencyLab(std::vector<Model> models, at::Device device, at::ScalarType dtype,
             QuantizedProduct product = QuantizedProduct::kInteger);
  /// One Latency per model, in order; every round measures each model once. A
  /// phase that was not asked for has no samples.
  std::vector<Latency> measure(const LatencyPoint& point) const;

 private:
  std::vector<Model> models_;
  at::Device device_;
  at::ScalarType dtype_;
  double copy_bandwidth_;  // GB/s
};

/// A lab for one point.
std::vector<Latency> measure_latency(const std::vector<const Model*>& models,
                                     const LatencyOptions& options);

}  // namespace autoglm
