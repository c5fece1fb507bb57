// Where the time of a step goes.
#pragma once

#include <string>
#include <vector>

#include "autoglm/eval/latency.h"

namespace autoglm {

struct PartTime {
  std::string part;  // as ForwardOptions::on_part names it, or "sampling"
  double ms = 0;     // of all layers together
};

/// The parts of one phase, in the order in which they first end, and the step
/// as it is without a clock between the parts. All are medians over the same
/// number of steps, which took turns.
struct Profile {
  std::string phase;  // "prefill", "decode"
  std::int64_t batch = 1, prompt = 0;
  std::vector<PartTime> parts;
  double step_ms = 0;

  double sum_ms() const;
  /// Without embedding, head and sampling.
  double blocks_ms() const;
};

Json to_json(const Profile& profile);

/// One profile per phase asked for, prefill first. The model's dense weights
/// must have the dtype and device of the options (to_compute, which decides
/// about the products too). On a GPU every part waits for the one before it,
/// which a step without clocks does not: the sum is then larger than the step.
std::vector<Profile> profile(const Model& model, const LatencyOptions& options);

}  // namespace autoglm
