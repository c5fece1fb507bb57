// Clocks of the devices, and how fast their memory copies.
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace autoglm {

/// Milliseconds of `body`: between two events on a GPU, wall clock on a CPU.
double time_ms(at::Device device, const std::function<void()>& body);

/// GB/s (bytes read + written) of copying a buffer far larger than the caches.
double copy_bandwidth(at::Device device);

}  // namespace autoglm
