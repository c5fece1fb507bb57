// The kernels of a device that is not the CPU. The model calls them where they
// apply and no gradient is asked for, and libtorch everywhere else. The program
// is not linked with them: whoever opens the device (eval/accelerator.h) brings
// a table, and tests bring one of an emulated device.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>

#include "autoglm/kernels/cuda_launchers.h"

namespace autoglm {

/// Work that was recorded once and can be done again, on the same memory.
class CapturedWork {
 public:
  virtual ~CapturedWork() = default;
  /// Queues the work; returns without waiting for it.
  virtual void replay() = 0;
};

struct DeviceKernels {
  kernels::cuda::Launchers launch;
  /// The stream on which libtorch queues its own work now.
  kernels::cuda::Stream (*stream)(at::Device device);
  /// Runs `body` once, since libraries make themselves ready in their first
  /// call, then records what it queues, without doing it. `body` may not wait
  /// for the device, copy to the host, or depend on what is in a tensor. Throws
  /// whatever the device says of a body that does. Null: the device records
  /// nothing.
  std::unique_ptr<CapturedWork> (*capture)(at::Device device,
                                           const std::function<void()>& body);
};

/// Devices of this type run through `kernels`, which must stay valid, from now
/// on; null pointer: through libtorch alone. Not while a model runs.
void set_device_kernels(at::DeviceType type, const DeviceKernels* kernels);

/// Null pointer: libtorch alone.
const DeviceKernels* device_kernels_for(at::Device device);

}  // namespace autoglm
