// libautoglm_cuda.so: events, memory statistics and names of CUDA devices.
// From c10 and the CUDA runtime alone: ATen/cuda would need the headers of the
// whole toolkit.
#include "eval/cuda/plugin.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <cstdio>

namespace autoglm {
namespace {

c10::DeviceIndex device_index(int index) {
  return static_cast<c10::DeviceIndex>(index);
}

cudaDeviceProp properties(int index) {
  cudaDeviceProp out;
  C10_CUDA_CHECK(cudaGetDeviceProperties(&out, index));
  return out;
}

class Event {
 public:
  Event() { C10_CUDA_CHECK(cudaEventCreate(&event_)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }
  void record() {
    C10_CUDA_CHECK(
        cudaEventRecord(event_, c10::cuda::getCurrentCUDAStream().stream()));
  }

 private:
  cudaEvent_t event_ = nullptr;
};

class Cuda final : public Accelerator {
 public:
  std::string device_name(int index) const override {
    return properties(index).name;
  }

  std::uint64_t total_memory(int index) const override {
    return properties(index).totalGlobalMem;
  }

  double time_ms(int index, const std::function<void()>& body) override {
    const c10::cuda::CUDAGuard guard(device_index(index));
    Event start, stop;
    start.record();
    body();
    stop.record();
    C10_CUDA_CHECK(cudaEventSynchronize(stop.get()));
    float ms = 0;
    C10_CUDA_CHECK(cudaEventElapsedTime(&ms, start.get(), stop.get()));
    return static_cast<double>(ms);
  }

  void synchronize(int index) override {
    const c10::cuda::CUDAGuard guard(device_index(index));
    c10::cuda::device_synchronize();
  }

  std::uint64_t peak_memory(int index) override {
    const auto stats =
        c10::cuda::CUDACachingAllocator::getDeviceStats(device_index(index));
    return static_cast<std::uint64_t>(stats.allocated_bytes[0].peak);
  }

  void reset_peak_memory(int index) override {
    c10::cuda::CUDACachingAllocator::resetPeakStats(device_index(index));
  }
};

}  // namespace
}  // namespace autoglm

extern "C" autoglm::Accelerator* autoglm_make_accelerator(char* why,
                                                          std::size_t size) {
  try {
    if (c10::cuda::device_count() > 0) return new autoglm::Cuda();
    std::snprintf(why, size, "no CUDA device is visible");
  } catch (const std::exception& error) {
    std::snprintf(why, size, "%.200s", error.what());
  }
  return nullptr;
}
