// Memory and clock of the benchmarks of GPU kernels.
#pragma once

#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "autoglm/kernels/cuda_kernels.h"
#include "bench_support.h"

namespace autoglm::bench {

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  fmt::print(stderr, "cuda: {}\n", cudaGetErrorString(error));
  std::exit(1);
}

inline void check(kernels::cuda::Status status) {
  if (status == kernels::cuda::Status::kOk) return;
  fmt::print(stderr, "cuda: {}\n", kernels::cuda::text(status));
  std::exit(1);
}

/// Memory of the device; copies share it.
class Memory {
 public:
  explicit Memory(std::size_t bytes) {
    void* data = nullptr;
    check(cudaMalloc(&data, std::max<std::size_t>(bytes, 16)));
    data_.reset(data, cudaFree);
  }
  /// Random bytes, a megabyte of them again and again, with the bits of `mask`.
  Memory(std::size_t bytes, std::uint8_t mask) : Memory(bytes) {
    std::vector<std::uint8_t> host(std::size_t{1} << 20);
    std::uint32_t state = 1;
    for (std::uint8_t& byte : host) {
      state = state * 1664525u + 1013904223u;
      byte = static_cast<std::uint8_t>(state >> 24) & mask;
    }
    for (std::size_t at = 0; at < bytes; at += host.size())
      check(cudaMemcpy(as<std::uint8_t>() + at, host.data(),
                       std::min(host.size(), bytes - at),
                       cudaMemcpyHostToDevice));
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_.get());
  }

 private:
  std::shared_ptr<void> data_;
};

/// bf16 ones.
inline Memory ones(std::int64_t count) {
  Memory out(static_cast<std::size_t>(2 * count));
  const std::vector<std::uint16_t> host(static_cast<std::size_t>(count),
                                        0x3f80);
  check(cudaMemcpy(out.as<void>(), host.data(), 2 * host.size(),
                   cudaMemcpyHostToDevice));
  return out;
}

/// Where the work goes.
struct Device {
  cudaStream_t stream = nullptr;
  std::size_t rotation = 0;  // bytes that no cache holds
  double copy = 0;           // GB/s

  std::size_t copies_of(double bytes) const {
    return std::max<std::size_t>(
        2, static_cast<std::size_t>(static_cast<double>(rotation) / bytes));
  }
};

/// Microseconds of one of `count` calls of `work(i)`, as one graph; a median.
inline double microseconds(const Device& device, const Settings& settings,
                           std::size_t count,
                           const std::function<void(std::size_t)>& work) {
  work(0);  // for what only a first call does
  check(cudaStreamSynchronize(device.stream));
  check(
      cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeThreadLocal));
  for (std::size_t i = 0; i < count; ++i) work(i);
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(device.stream, &graph));
  cudaGraphExec_t all = nullptr;
  check(cudaGraphInstantiate(&all, graph, 0));
  cudaEvent_t start, stop;
  check(cudaEventCreate(&start));
  check(cudaEventCreate(&stop));
  std::vector<float> samples;
  double spent_ms = 0;
  for (int round = 0; round < 5 || spent_ms < 1e3 * settings.seconds; ++round) {
    check(cudaEventRecord(start, device.stream));
    check(cudaGraphLaunch(all, device.stream));
    check(cudaEventRecord(stop, device.stream));
    check(cudaEventSynchronize(stop));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start, stop));
    spent_ms += static_cast<double>(ms);
    if (round > 0) samples.push_back(ms);  // the first one warms up
  }
  check(cudaEventDestroy(start));
  check(cudaEventDestroy(stop));
  check(cudaGraphExecDestroy(all));
  check(cudaGraphDestroy(graph));
  const auto middle =
      samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return 1e3 * static_cast<double>(*middle) / static_cast<double>(count);
}

/// Measures the copy bandwidth: bytes read and written.
inline void time_copy(Device& device, const Settings& settings) {
  constexpr std::size_t kBytes = std::size_t{512} << 20;
  const Memory from(kBytes), to(kBytes);
  const double us = microseconds(device, settings, 1, [&](std::size_t) {
    check(cudaMemcpyAsync(to.as<void>(), from.as<void>(), kBytes,
                          cudaMemcpyDeviceToDevice, device.stream));
  });
  device.copy = 2.0 * static_cast<double>(kBytes) / us / 1e3;
}

}  // namespace autoglm::bench
