// What every launcher checks of its arguments.
#pragma once

#include <cstddef>
#include <cstdint>

#include "autoglm/kernels/cuda_kernels.h"

namespace autoglm::kernels::cuda {

// Sizes up to here leave room for index arithmetic in 32 bits.
constexpr std::int64_t kMostSize = 1 << 30;

inline bool is_aligned(const void* pointer, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

inline std::size_t size_of(NumberType type) {
  return type == NumberType::kFloat32 ? 4 : 2;
}

inline bool is_good_size(std::int64_t n) { return n >= 1 && n <= kMostSize; }

inline Status check(const PackedMatrix& w) {
  if (w.bits < 2 || w.bits > 8) return Status::kBadBits;
  if (!is_good_size(w.out) || !is_good_size(w.in) || w.group_size < 1)
    return Status::kBadSize;
  if (!is_aligned(w.codes, 4) || !is_aligned(w.scales, size_of(w.scale_type)))
    return Status::kBadAlignment;
  return Status::kOk;
}

inline Status check(const Float8Matrix& w) {
  if (!is_good_size(w.out) || !is_good_size(w.in)) return Status::kBadSize;
  if (!is_aligned(w.scales, size_of(w.scale_type)))
    return Status::kBadAlignment;
  return Status::kOk;
}

}  // namespace autoglm::kernels::cuda
