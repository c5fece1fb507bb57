// The kernels of src/kernels/cuda and graphs of them, as the model calls them.
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <map>
#include <mutex>

#include "eval/cuda/plugin.h"

namespace autoglm {
namespace {

// Below it there are no bf16 tensor cores and no cp.async.
constexpr int kLeastMajor = 8;

kernels::cuda::Stream current_stream(at::Device device) {
  return c10::cuda::getCurrentCUDAStream(device.index()).stream();
}

// Work cannot be recorded on the default stream. One stream for all graphs, for
// which cuBLAS keeps one workspace.
c10::cuda::CUDAStream recording_stream(c10::DeviceIndex device) {
  static std::map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const auto found = streams.find(device);
  if (found != streams.end()) return found->second;
  return streams
      .emplace(device,
               c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device))
      .first->second;
}

class Graph final : public CapturedWork {
 public:
  Graph(at::Device device, const std::function<void()>& body)
      : device_(device.index()) {
    const c10::cuda::CUDAGuard guard(device_);
    const c10::cuda::CUDAStream stream = recording_stream(device_);
    // What the body reads is there, whichever stream wrote it.
    c10::cuda::device_synchronize();
    const c10::cuda::CUDAStreamGuard on(stream);
    body();
    stream.synchronize();
    graph_.capture_begin();
    try {
      body();
    } catch (...) {
      leave_capture();
      throw;
    }
    graph_.capture_end();
  }

  void replay() override {
    const c10::cuda::CUDAGuard guard(device_);
    graph_.replay();
  }

 private:
  // The error to report is the one that is on its way already.
  void leave_capture() noexcept {
    try {
      graph_.capture_end();
    } catch (const std::exception&) {
      cudaGetLastError();
    }
  }

  c10::DeviceIndex device_;
  at::cuda::CUDAGraph graph_;
};

std::unique_ptr<CapturedWork> capture(at::Device device,
                                      const std::function<void()>& body) {
  return std::make_unique<Graph>(device, body);
}

}  // namespace
}  // namespace autoglm

extern "C" const autoglm::DeviceKernels* autoglm_device_kernels(
    char* why, std::size_t size) {
  static const autoglm::DeviceKernels kernels = {
      autoglm::kernels::cuda::launchers(), autoglm::current_stream,
      autoglm::capture};
  try {
    for (int i = 0; i < c10::cuda::device_count(); ++i) {
      int major = 0, minor = 0;
      C10_CUDA_CHECK(
          cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i));
      C10_CUDA_CHECK(
          cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, i));
      if (major >= autoglm::kLeastMajor) continue;
      std::snprintf(why, size,
                    "device %d has compute capability %d.%d, below %d.0", i,
                    major, minor, autoglm::kLeastMajor);
      return nullptr;
    }
    return &kernels;
  } catch (const std::exception& error) {
    std::snprintf(why, size, "%.200s", error.what());
    return nullptr;
  }
}
