// libautoglm_cuda.so: events, memory statistics and names of CUDA devices.
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include "eval/cuda/plugin.h"

namespace autoglm {
namespace {

c10::DeviceIndex device_index(int index) {
  return static_cast<c10::DeviceIndex>(index);
}

class Cuda final : public Accelerator {
 public:
  std::string device_name(int index) const override {
    return at::cuda::getDeviceProperties(device_index(index))->name;
  }

  std::uint64_t total_memory(int index) const override {
    return at::cuda::getDeviceProperties(device_index(index))->totalGlobalMem;
  }

  double time_ms(int index, const std::function<void()>& body) override {
    const c10::cuda::CUDAGuard guard(device_index(index));
    at::cuda::CUDAEvent start(cudaEventDefault), stop(cudaEventDefault);
    start.record();
    body();
    stop.record();
    stop.synchronize();
    return static_cast<double>(start.elapsed_time(stop));
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
  // No exception may leave: the caller was linked separately.
  try {
    if (c10::cuda::device_count() > 0) return new autoglm::Cuda();
    std::snprintf(why, size, "no CUDA device is visible");
  } catch (const std::exception& error) {
    std::snprintf(why, size, "%.200s", error.what());
  }
  return nullptr;
}
