// What calls of device kernels have in common.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "autoglm/model/device_kernels.h"

namespace autoglm {

/// fp32, bf16 or fp16; nothing for others.
std::optional<kernels::cuda::NumberType> number_type(at::ScalarType dtype);

/// True if the work is queued; false if the kernel does not take these
/// arguments. Throws kInternal for a device that refuses.
bool is_queued(kernels::cuda::Status status);

/// Memory for a kernel; undefined for 0 bytes. Freed in the stream's order.
at::Tensor workspace_like(const at::Tensor& x, std::int64_t bytes);

/// Null pointer for an undefined tensor.
inline const void* data_of(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr() : nullptr;
}

}  // namespace autoglm
