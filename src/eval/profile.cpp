#include "autoglm/eval/profile.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <string_view>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/model/forward.h"
#include "eval/subject.h"

namespace autoglm {
namespace {

// Adds up what passes between one mark and the next.
class PartClock {
 public:
  explicit PartClock(at::Device device) : device_(device) { restart(); }

  void restart() { last_ = now(); }

  double lap() {
    const Clock::time_point time = now();
    const double ms =
        std::chrono::duration<double, std::milli>(time - last_).count();
    last_ = time;
    return ms;
  }

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point now() const {
    if (device_.is_cuda()) find_cuda()->synchronize(device_.index());
    return Clock::now();
  }

  at::Device device_;
  Clock::time_point last_;
};

// Milliseconds of one phase, sample by sample.
struct PhaseSamples {
  struct Part {
    std::string name;
    std::vector<double> ms;  // per step
  };
  std::vector<Part> parts;
  std::vector<double> steps;  // without clocks

  // Of the step that is going on.
  void add(std::string_view name, double ms, std::size_t step) {
    auto found = std::find_if(parts.begin(), parts.end(),
                              [&](const Part& p) { return p.name == name; });
    if (found == parts.end())
      found = parts.insert(parts.end(), {std::string(name), {}});
    found->ms.resize(step + 1);
    found->ms[step] += ms;
  }
};

double median(std::vector<double> values) {
  const auto middle =
      values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct PhaseRun {
  Profile profile;
  PhaseSamples samples;
  std::size_t steps = 0;  // with clocks
};

// One step, with a clock between the parts or around the whole.
at::Tensor run_step(const Model& model, const at::Tensor& ids,
                    ForwardOptions options, bool clocks, PhaseRun& run) {
  PartClock clock(ids.device());
  const std::size_t step = run.steps;
  if (clocks)
    options.on_part = [&](const char* part) {
      run.samples.add(part, clock.lap(), step);
    };
  const at::Tensor next = forward(model, ids, options).argmax(-1);
  if (clocks) {
    run.samples.add("sampling", clock.lap(), step);
    ++run.steps;
  } else {
    run.samples.steps.push_back(clock.lap());
  }
  return next;
}

void run_round(const Model& model, const at::Tensor& prompt,
               const LatencyOptions& options, const KvCache& filled,
               bool clocks, std::vector<PhaseRun>& runs) {
  KvCache cache = filled;
  ForwardOptions forward_options;
  forward_options.dtype = options.dtype;
  forward_options.cache = &cache;
  forward_options.last_only = true;
  at::Tensor next = prompt.narrow(1, 0, 1);
  for (PhaseRun& run : runs) {
    const bool prefill = run.profile.phase == "prefill";
    for (std::int64_t i = 0; i < (prefill ? 1 : options.generate); ++i)
      next = run_step(model, prefill ? prompt : next, forward_options, clocks,
                      run);
  }
}

std::vector<PhaseRun> empty_runs(const LatencyOptions& options) {
  std::vector<PhaseRun> out;
  for (const auto& [wanted, phase] : {std::pair(options.prefill, "prefill"),
                                      std::pair(options.decode, "decode")}) {
    if (!wanted) continue;
    out.emplace_back();
    out.back().profile.phase = phase;
    out.back().profile.batch = options.batch;
    out.back().profile.prompt = options.prompt;
  }
  return out;
}

}  // namespace

double Profile::sum_ms() const {
  double sum = 0;
  for (const PartTime& part : parts) sum += part.ms;
  return sum;
}

double Profile::blocks_ms() const {
  double sum = 0;
  for (const PartTime& part : parts)
    if (part.part != "embedding" && part.part != "head" &&
        part.part != "sampling")
      sum += part.ms;
  return sum;
}

Json to_json(const Profile& profile) {
  Json parts = Json::object();
  for (const PartTime& part : profile.parts) parts[part.part] = part.ms;
  return {{"phase", profile.phase},     {"batch", profile.batch},
          {"prompt", profile.prompt},   {"parts_ms", parts},
          {"sum_ms", profile.sum_ms()}, {"step_ms", profile.step_ms}};
}

std::vector<Profile> profile(const Model& model,
                             const LatencyOptions& options) {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(options.repeats > 0);
  AUTOGLM_ENSURE(options.prefill || options.decode);
  const at::Tensor prompt = random_prompt({model}, options, options.device);
  KvCache filled;
  if (!options.prefill) {
    ForwardOptions fill;
    fill.dtype = options.dtype;
    fill.last_only = true;
    filled = filled_cache(model, prompt, options.prompt, fill);
  }
  filled.expected = options.prompt + options.generate;
  std::vector<PhaseRun> warm_up = empty_runs(options);
  std::vector<PhaseRun> runs = empty_runs(options);
  for (std::int64_t round = 0; round <= options.repeats; ++round)
    for (const bool clocks : {true, false}) {
      check_interrupted();
      run_round(model, prompt, options, filled, clocks,
                round == 0 ? warm_up : runs);
    }
  std::vector<Profile> out;
  for (PhaseRun& run : runs) {
    for (const PhaseSamples::Part& part : run.samples.parts)
      run.profile.parts.push_back({part.name, median(part.ms)});
    run.profile.step_ms = median(run.samples.steps);
    out.push_back(std::move(run.profile));
  }
  return out;
}

}  // namespace autoglm
