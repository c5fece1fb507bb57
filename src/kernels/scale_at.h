// One scale in fp32, whatever it is stored as. In an unnamed namespace: see
// packed_loops.h.
#pragma once

#include "autoglm/kernels/packed_linear.h"

namespace autoglm::kernels {
namespace {

inline float scale_at(const void* scales, ScaleType type, std::int64_t index) {
  switch (type) {
    case ScaleType::kFloat32:
      return static_cast<const float*>(scales)[index];
    case ScaleType::kBFloat16: {
      const std::uint32_t bits =
          static_cast<std::uint32_t>(
              static_cast<const std::uint16_t*>(scales)[index])
          << 16;
      return __builtin_bit_cast(float, bits);
    }
    case ScaleType::kFloat16:
      return static_cast<float>(static_cast<const _Float16*>(scales)[index]);
  }
  return 0;
}

}  // namespace
}  // namespace autoglm::kernels
