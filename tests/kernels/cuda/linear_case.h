// Products on the device under test, and in double.
#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "autoglm/kernels/cuda_kernels.h"
#include "kernels/cuda/numbers.cuh"
#include "tests/kernels/cuda/device_memory.h"
#include "tests/kernels/packed_case.h"

namespace autoglm::test {

using kernels::cuda::NumberType;
using kernels::cuda::Status;

inline std::size_t size_of(NumberType type) {
  return type == NumberType::kFloat32 ? 4 : 2;
}

/// Numbers in `type`, as bytes.
inline std::vector<unsigned char> encode(const std::vector<float>& values,
                                         NumberType type) {
  std::vector<unsigned char> out(values.size() * size_of(type));
  for (std::size_t i = 0; i < values.size(); ++i)
    kernels::cuda::put_number(out.data(), type, static_cast<std::int64_t>(i),
                              values[i]);
  return out;
}

inline std::vector<float> decode(const std::vector<unsigned char>& bytes,
                                 NumberType type) {
  std::vector<float> out(bytes.size() / size_of(type));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = kernels::cuda::number_at(bytes.data(), type,
                                      static_cast<std::int64_t>(i));
  return out;
}

inline void round_all(std::vector<float>& values, NumberType type) {
  for (float& value : values) value = kernels::cuda::rounded_to(type, value);
}

struct Types {
  NumberType x = NumberType::kBFloat16;
  NumberType y = NumberType::kFloat32;
};

/// A packed weight on the device.
struct DeviceWeight {
  DeviceBuffer words, scales, zeros;
  kernels::PackedMatrix matrix;

  explicit DeviceWeight(const Case& c)
      : words(c.words),
        scales(c.shape.scale_type == NumberType::kFloat32
                   ? DeviceBuffer(c.scale_floats)
                   : DeviceBuffer(c.scale_halves)),
        zeros(c.zero_codes),
        matrix(c.matrix()) {
    matrix.codes = words.as<std::uint32_t>();
    matrix.scales = scales.as<void>();
    if (matrix.zeros != nullptr) matrix.zeros = zeros.as<std::uint8_t>();
  }
};

/// The products as floats; x is rounded to its type first.
inline std::vector<float> multiply(const kernels::PackedMatrix& weight,
                                   const std::vector<float>& x,
                                   std::int64_t rows, Types types,
                                   const std::vector<float>& bias = {}) {
  const DeviceBuffer device_x(encode(x, types.x));
  const DeviceBuffer device_bias(encode(bias, types.x));
  const DeviceBuffer y(static_cast<std::size_t>(rows * weight.out) *
                       size_of(types.y));
  const DeviceBuffer workspace(static_cast<std::size_t>(
      kernels::cuda::linear_workspace(weight, types.x, rows)));
  kernels::cuda::LinearArguments a = {};
  a.x = device_x.as<void>();
  a.x_type = types.x;
  a.bias = bias.empty() ? nullptr : device_bias.as<void>();
  a.bias_type = types.x;
  a.y = y.as<void>();
  a.y_type = types.y;
  a.rows = rows;
  a.workspace = workspace.as<void>();
  const Status status = kernels::cuda::packed_linear(weight, a, nullptr);
  INFO(kernels::cuda::text(status));
  REQUIRE(status == Status::kOk);
  return decode(y.read<unsigned char>(), types.y);
}

}  // namespace autoglm::test
