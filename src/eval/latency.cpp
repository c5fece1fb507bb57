#include "autoglm/eval/latency.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/model/footprint.h"
#include "autoglm/model/forward.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

double time_ms(at::Device device, const std::function<void()>& body) {
  if (device.is_cuda()) {
    Accelerator* cuda = find_cuda();
    AUTOGLM_ENSURE(cuda != nullptr);
    return cuda->time_ms(device.index(), body);
  }
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

// GB/s of copying a buffer far larger than the caches: bytes read + written.
double copy_bandwidth(at::Device device) {
  const std::int64_t size = 256 << 20;
  const auto options = at::TensorOptions(at::kByte).device(device);
  const at::Tensor from = at::ones({size}, options);
  at::Tensor to = at::empty({size}, options);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double ms = time_ms(device, [&] {
      if (device.is_cuda()) {
        to.copy_(from);
        return;
      }
      char* out = static_cast<char*>(to.mutable_data_ptr());
      const char* in = static_cast<const char*>(from.const_data_ptr());
      at::parallel_for(0, size, size / at::get_num_threads(),
                       [&](std::int64_t begin, std::int64_t end) {
                         std::memcpy(out + begin, in + begin,
                                     static_cast<std::size_t>(end - begin));
                       });
    });
    if (i > 0)
      best = std::max(best, 2.0 * static_cast<double>(size) / ms / 1e6);
  }
  return best;
}

std::string device_text(at::Device device) {
  if (!device.is_cuda())
    return fmt::format("cpu ({} threads)", at::get_num_threads());
  return fmt::format("{} ({})", device.str(),
                     find_cuda()->device_name(device.index()));
}

struct Samples {
  std::vector<double> prefill, decode;
};

LatencyPhase summarize(const char* name, std::vector<double> samples,
                       std::uint64_t bytes, double bandwidth) {
  AUTOGLM_ENSURE(!samples.empty());
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double share) {
    const double rank = share * static_cast<double>(samples.size() - 1);
    return samples[static_cast<std::size_t>(std::lround(rank))];
  };
  LatencyPhase phase;
  phase.phase = name;
  phase.median_ms = at(0.5);
  phase.p90_ms = at(0.9);
  phase.p99_ms = at(0.99);
  phase.samples = static_cast<std::int64_t>(samples.size());
  phase.bytes_touched = bytes;
  phase.achieved_gb_s = static_cast<double>(bytes) / phase.median_ms / 1e6;
  phase.bandwidth_share = phase.achieved_gb_s / bandwidth;
  return phase;
}

// Which kernels the matrices run through: those of the blocks on all tokens of
// a step, the head (or the embedding in its place) on the last of each
// sequence.
void name_kernels(const Model& model, std::int64_t batch, std::int64_t tokens,
                  const char* dtype, LatencyPhase& phase) {
  std::set<std::string> names;
  for (const NamedLinear& linear : named_linears(model)) {
    if (linear.name == "embedding" && model.head) continue;
    const Weight& weight = weight_of(model, linear.name);
    const bool head = linear.name == "embedding" || linear.name == "head";
    std::string name = linear_kernel(weight, head ? batch : batch * tokens);
    if (name == "dequantize + gemm") phase.simulated = true;
    if (name == "dense") name = fmt::format("dense {}", dtype);
    names.insert(name);
  }
  phase.kernel = fmt::format("{}", fmt::join(names, ", "));
}

void measure_once(const Model& model, const at::Tensor& prompt,
                  const LatencyOptions& options, Samples& samples) {
  KvCache cache;
  ForwardOptions forward_options;
  forward_options.dtype = options.dtype;
  forward_options.cache = &cache;
  forward_options.last_only = true;
  at::Tensor next;
  samples.prefill.push_back(time_ms(options.device, [&] {
    next = forward(model, prompt, forward_options).argmax(-1);
  }));
  for (std::int64_t i = 0; i < options.generate; ++i)
    samples.decode.push_back(time_ms(options.device, [&] {
      next = forward(model, next, forward_options).argmax(-1);
    }));
}

}  // namespace

std::vector<Latency> measure_latency(const std::vector<const Model*>& models,
                                     const LatencyOptions& options) {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(!models.empty() && options.repeats > 0);
  std::vector<Model> compute;
  std::int64_t vocabulary = models[0]->architecture.vocabulary;
  for (const Model* model : models) {
    compute.push_back(to_compute(*model, options.device, options.dtype));
    vocabulary = std::min(vocabulary, model->architecture.vocabulary);
  }
  Rng rng(derive_seed(options.seed, "latency prompt"));
  at::Tensor prompt = at::empty({options.batch, options.prompt}, at::kLong);
  std::int64_t* ids = prompt.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < prompt.numel(); ++i)
    ids[i] = static_cast<std::int64_t>(
        rng.below(static_cast<std::uint64_t>(vocabulary)));
  prompt = prompt.to(options.device);

  std::vector<Samples> samples(models.size());
  Progress progress(
      "measuring latency",
      (options.repeats + 1) * static_cast<std::int64_t>(models.size()),
      "rounds");
  for (std::int64_t round = 0; round <= options.repeats; ++round) {
    // Models take turns, so that a drift of the machine hits all alike.
    for (std::size_t i = 0; i < models.size(); ++i) {
      Samples scratch;  // round 0 warms up
      measure_once(compute[i], prompt, options,
                   round == 0 ? scratch : samples[i]);
      progress.step();
    }
  }
  const double bandwidth = copy_bandwidth(options.device);
  const char* dtype = options.dtype == at::kFloat      ? "fp32"
                      : options.dtype == at::kBFloat16 ? "bf16"
                                                       : "fp16";
  std::vector<Latency> out;
  for (std::size_t i = 0; i < models.size(); ++i) {
    Latency latency;
    latency.device = device_text(options.device);
    latency.dtype = dtype;
    latency.batch = options.batch;
    latency.prompt = options.prompt;
    latency.generated = options.generate;
    latency.copy_bandwidth_gb_s = bandwidth;
    const std::uint64_t weights = footprint(compute[i]).bytes_per_token;
    const auto element =
        static_cast<std::int64_t>(at::elementSize(options.dtype));
    const auto cached_tokens = static_cast<std::uint64_t>(
        (options.prompt + options.generate / 2) * options.batch);
    latency.prefill =
        summarize("prefill", samples[i].prefill, weights, bandwidth);
    latency.decode = summarize(
        "decode", samples[i].decode,
        weights + cache_bytes_per_token(compute[i].architecture, element) *
                      cached_tokens,
        bandwidth);
    name_kernels(compute[i], options.batch, options.prompt, dtype,
                 latency.prefill);
    name_kernels(compute[i], options.batch, 1, dtype, latency.decode);
    out.push_back(std::move(latency));
  }
  return out;
}

}  // namespace autoglm
