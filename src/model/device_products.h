// Products with quantized matrices through the kernels of their device.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/model/device_kernels.h"
#include "autoglm/model/weight.h"

namespace autoglm {

/// True where a kernel multiplies `rows` vectors: few of them, groups of whole
/// 32 elements (8 bits: 16) or whole rows, on a device with kernels.
bool has_device_product(const Weight& weight, std::int64_t rows);

/// What a kernel multiplies: whole numbers and steps, or x as it is.
struct DeviceRows {
  at::Tensor values;  // [..., in], fp32, bf16 or fp16
  at::Tensor steps;   // fp32 [rows] that products are multiplied by, or none
};

/// x [..., in] rounded to whole numbers from -127 to 127 by `scheme`, which are
/// kept as int8 or bf16; undefined where the device has no kernel for it.
DeviceRows round_rows_on_device(const at::Tensor& x,
                                const ActivationScheme& scheme,
                                at::ScalarType kept);

/// x * weight^T * step + bias [..., out] in `dtype`. Sums are fp32, rounded
/// once. has_device_product must hold; bias [out], in `dtype`, or undefined.
/// Undefined where the kernel does not take it after all, for example fp64.
at::Tensor device_product(const DeviceRows& x, const Weight& weight,
                          const at::Tensor& bias, at::ScalarType dtype);

/// Rows [begin, end) as numbers, or undefined where no kernel makes them.
at::Tensor dequantize_on_device(const QuantizedWeight& weight,
                                std::int64_t begin, std::int64_t end,
                                at::ScalarType dtype);
at::Tensor dequantize_on_device(const Float8Weight& weight, std::int64_t begin,
                                std::int64_t end, at::ScalarType dtype);

}  // namespace autoglm
