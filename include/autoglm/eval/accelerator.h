// What a GPU offers beyond ATen: events, memory statistics. Implemented in the
// plug-in libautoglm_cuda.so, which is opened only when a CUDA device is asked
// for, so that the program itself links torch_cpu alone and starts fast.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>

namespace autoglm {

class Accelerator {
 public:
  virtual ~Accelerator() = default;
  virtual std::string device_name(int index) const = 0;
  virtual std::uint64_t total_memory(int index) const = 0;
  /// Milliseconds of `body` between two events on the current stream.
  virtual double time_ms(int index, const std::function<void()>& body) = 0;
  virtual void synchronize(int index) = 0;
  /// Peak bytes allocated since the last reset.
  virtual std::uint64_t peak_memory(int index) = 0;
  virtual void reset_peak_memory(int index) = 0;
};

/// The CUDA accelerator, or null pointer with the reason in `why`: not built,
/// plug-in not found, no driver, no device.
/// The first call lets the model run through the plug-in's kernels there.
Accelerator* find_cuda(std::string* why = nullptr);

/// True if models on CUDA devices run through our own kernels
/// (model/device_kernels.h), or false with the reason in `why`: built without
/// nvcc, a device that is too old, or what keeps find_cuda from one.
bool has_cuda_kernels(std::string* why = nullptr);

/// "auto", "cpu", "cuda", "cuda:1" -> a device that works. Throws kConfig for
/// another text and for a CUDA device that is not there (saying why).
at::Device choose_device(const std::string& text);

}  // namespace autoglm
