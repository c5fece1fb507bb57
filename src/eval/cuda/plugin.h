// The symbols of libautoglm_cuda.so. No exception leaves them: the caller was
// linked separately.
#pragma once

#include <cstddef>

#include "autoglm/eval/accelerator.h"
#include "autoglm/model/device_kernels.h"

/// A new accelerator, or null pointer with the reason written to `why`.
extern "C" autoglm::Accelerator* autoglm_make_accelerator(char* why,
                                                          std::size_t size);

/// Our kernels for all devices that are visible, or null pointer with the
/// reason. Not there where nvcc was not found.
extern "C" const autoglm::DeviceKernels* autoglm_device_kernels(
    char* why, std::size_t size);
