#include "autoglm/eval/latency.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/model/decoder.h"
#include "autoglm/model/footprint.h"
#include "autoglm/model/forward.h"
#include "eval/subject.h"
#include "eval/timing.h"

namespace autoglm {
namespace {

std::string device_text(at::Device device) {
  if (!device.is_cuda())
    return fmt::format("cpu ({} threads)", at::get_num_threads());
  return fmt::format("{} ({})", device.str(),
                     find_cuda()->device_name(device.index()));
}

// Milliseconds, one list per round.
struct Samples {
  std::vector<std::vector<double>> prefill, decode;
  bool recorded = false;  // a decode step is one graph
};

double quantile(std::vector<double> sorted_or_not, double share) {
  std::sort(sorted_or_not.begin(), sorted_or_not.end());
  const double rank = share * static_cast<double>(sorted_or_not.size() - 1);
  return sorted_or_not[static_cast<std::size_t>(std::lround(rank))];
}

LatencyPhase summarize(const char* name,
                       const std::vector<std::vector<double>>& rounds,
                       std::uint64_t bytes, double bandwidth) {
  LatencyPhase phase;
  phase.phase = name;
  if (rounds.empty()) return phase;
  std::vector<double> all;
  for (const std::vector<double>& round : rounds) {
    all.insert(all.end(), round.begin(), round.end());
    phase.rounds_ms.push_back(quantile(round, 0.5));
  }
  phase.median_ms = quantile(all, 0.5);
  phase.p90_ms = quantile(all, 0.9);
  phase.p99_ms = quantile(all, 0.99);
  phase.samples = static_cast<std::int64_t>(all.size());
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
                  const LatencyPoint& point, const KvCache& filled,
                  at::ScalarType dtype, Samples& samples) {
  const at::Device device = prompt.device();
  KvCache cache = filled;
  ForwardOptions options;
  options.dtype = dtype;
  options.cache = &cache;
  options.last_only = true;
  at::Tensor next = prompt.narrow(1, 0, 1);
  if (point.prefill)
    samples.prefill.push_back({time_ms(
        device, [&] { next = forward(model, prompt, options).argmax(-1); })});
  if (!point.decode) return;
  Decoder decoder(model, std::move(cache), point.batch, dtype);
  samples.recorded = decoder.is_recorded();
  std::vector<double> steps;
  for (std::int64_t i = 0; i < point.generate; ++i)
    steps.push_back(
        time_ms(device, [&] { next = decoder.step(next).argmax(-1, true); }));
  samples.decode.push_back(std::move(steps));
}

const char* short_name(at::ScalarType dtype) {
  return dtype == at::kFloat      ? "fp32"
         : dtype == at::kBFloat16 ? "bf16"
                                  : "fp16";
}

Latency describe_run(const Model& model, const LatencyPoint& point,
                     const Samples& samples, at::ScalarType dtype,
                     double bandwidth) {
  Latency out;
  out.dtype = short_name(dtype);
  out.batch = point.batch;
  out.prompt = point.prompt;
  out.generated = point.decode ? point.generate : 0;
  out.copy_bandwidth_gb_s = bandwidth;
  const auto element = static_cast<std::int64_t>(at::elementSize(dtype));
  const auto cached = static_cast<std::uint64_t>(
      (point.prompt + point.generate / 2) * point.batch);
  out.prefill =
      summarize("prefill", samples.prefill,
                bytes_read(model, point.batch * point.prompt), bandwidth);
  out.decode =
      summarize("decode", samples.decode,
                bytes_read(model, point.batch) +
                    cache_bytes_per_token(model.architecture, element) * cached,
                bandwidth);
  name_kernels(model, point.batch, point.prompt, out.dtype.c_str(),
               out.prefill);
  name_kernels(model, point.batch, 1, out.dtype.c_str(), out.decode);
  if (samples.recorded) out.decode.kernel += " (one graph)";
  return out;
}

}  // namespace

LatencyLab::LatencyLab(std::vector<Model> models, at::Device device,
                       at::ScalarType dtype, QuantizedProduct product)
    : models_(std::move(models)),
      device_(device),
      dtype_(dtype),
      copy_bandwidth_(copy_bandwidth(device)) {
  AUTOGLM_ENSURE(!models_.empty());
  for (Model& model : models_)
    model = to_compute(std::move(model), device, dtype, product);
}

std::vector<Latency> LatencyLab::measure(const LatencyPoint& point) const {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(point.repeats > 0 && point.batch > 0);
  AUTOGLM_ENSURE(point.prefill || point.decode);
  const at::Tensor prompt = random_prompt(models_, point, device_);
  std::vector<KvCache> filled(models_.size());
  if (!point.prefill) {
    ForwardOptions options;
    options.dtype = dtype_;
    options.last_only = true;
    for (std::size_t i = 0; i < models_.size(); ++i)
      filled[i] = filled_cache(models_[i], prompt, point.prompt, options);
  }
  for (KvCache& cache : filled)
    cache.expected = point.prompt + (point.decode ? point.generate : 0);

  std::vector<Samples> samples(models_.size());
  Progress progress(
      "measuring latency",
      (point.repeats + 1) * static_cast<std::int64_t>(models_.size()),
      "rounds");
  for (std::int64_t round = 0; round <= point.repeats; ++round) {
    // Models take turns, so that a drift of the machine hits all alike.
    for (std::size_t i = 0; i < models_.size(); ++i) {
      check_interrupted();
      Samples scratch;  // round 0 warms up
      measure_once(models_[i], prompt, point, filled[i], dtype_,
                   round == 0 ? scratch : samples[i]);
      progress.step();
    }
  }
  std::vector<Latency> out;
  for (std::size_t i = 0; i < models_.size(); ++i) {
    out.push_back(
        describe_run(models_[i], point, samples[i], dtype_, copy_bandwidth_));
    out.back().device = device_text(device_);
  }
  return out;
}

std::vector<Latency> measure_latency(const std::vector<const Model*>& models,
                                     const LatencyOptions& options) {
  std::vector<Model> copies;  // of handles
  for (const Model* model : models) copies.push_back(*model);
  return LatencyLab(std::move(copies), options.device, options.dtype,
                    options.product)
      .measure(options);
}

}  // namespace autoglm
