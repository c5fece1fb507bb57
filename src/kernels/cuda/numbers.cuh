// Numbers of 8, 16 and 32 bits as bits, the same on the device and on the host.
// A "pair" is two 16-bit numbers in a register, the first in the low half.
#pragma once

#include <cstdint>

#include "autoglm/kernels/cuda_kernels.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define AUTOGLM_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define AUTOGLM_HOST_DEVICE inline
#endif

namespace autoglm::kernels::cuda {

AUTOGLM_HOST_DEVICE float as_float(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}

AUTOGLM_HOST_DEVICE std::uint32_t as_bits(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  return __builtin_bit_cast(std::uint32_t, value);
#endif
}

/// The upper 32 bits of (high:low) << 32 - shift, that is the 32 bits that
/// start `shift` bits above the lowest one of `low`. shift: 0..31.
AUTOGLM_HOST_DEVICE std::uint32_t funnel(std::uint32_t low, std::uint32_t high,
                                         int shift) {
#if defined(__CUDA_ARCH__)
  return __funnelshift_r(low, high, shift);
#else
  return static_cast<std::uint32_t>(
      (static_cast<std::uint64_t>(high) << 32 | low) >> shift);
#endif
}

/// Four of the eight bytes of (high:low), each named by a hexadecimal digit of
/// `selector`, the lowest byte by the lowest digit.
AUTOGLM_HOST_DEVICE std::uint32_t choose_bytes(std::uint32_t low,
                                               std::uint32_t high,
                                               std::uint32_t selector) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(low, high, selector);
#else
  const std::uint64_t both = static_cast<std::uint64_t>(high) << 32 | low;
  std::uint32_t out = 0;
  for (int i = 0; i < 4; ++i)
    out |= static_cast<std::uint32_t>(both >> 8 * (selector >> 4 * i & 7) & 255)
           << 8 * i;
  return out;
#endif
}

/// (value & mask) | bits in one instruction: the compiler, left alone, makes
/// two of it where both are constants.
AUTOGLM_HOST_DEVICE std::uint32_t mask_or(std::uint32_t value,
                                          std::uint32_t mask,
                                          std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  std::uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;"
      : "=r"(out)
      : "r"(value), "r"(mask), "r"(bits));
  return out;
#else
  return (value & mask) | bits;
#endif
}

/// The upper 32 bits of a * b.
AUTOGLM_HOST_DEVICE std::uint32_t multiply_high(std::uint32_t a,
                                                std::uint32_t b) {
#if defined(__CUDA_ARCH__)
  return __umulhi(a, b);
#else
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(a) * b >> 32);
#endif
}

AUTOGLM_HOST_DEVICE float from_bf16(std::uint16_t bits) {
  return as_float(static_cast<std::uint32_t>(bits) << 16);
}

/// The halves of a pair.
AUTOGLM_HOST_DEVICE std::uint16_t low_half(std::uint32_t pair) {
  return static_cast<std::uint16_t>(pair & 0xffff);
}
AUTOGLM_HOST_DEVICE std::uint16_t high_half(std::uint32_t pair) {
  return static_cast<std::uint16_t>(pair >> 16);
}

/// To nearest, ties to even; NaN stays NaN.
AUTOGLM_HOST_DEVICE std::uint16_t to_bf16(float value) {
#if defined(__CUDA_ARCH__)
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
  const std::uint32_t bits = as_bits(value);
  if (value != value) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}

AUTOGLM_HOST_DEVICE float from_fp16(std::uint16_t bits) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(bits));
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t rest = bits & 0x7fff;
  if (rest >= 0x7c00) return as_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // As if its exponent had 8 bits, then moved by 127 - 15; exact.
  return as_float(sign | as_bits(as_float(rest << 13) * 0x1p112f));
#endif
}

/// To nearest, ties to even; beyond 65504 infinity; NaN stays NaN.
AUTOGLM_HOST_DEVICE std::uint16_t to_fp16(float value) {
#if defined(__CUDA_ARCH__)
  return __half_as_ushort(__float2half_rn(value));
#else
  const std::uint32_t bits = as_bits(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  const std::uint32_t size = bits & 0x7fffffff;
  if (size > 0x7f800000) return 0x7fff;
  if (size >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);
  if (size < 0x38800000) {  // subnormal: a sum that rounds at 2^-24
    const float sum = as_float(size) + 0.5f;
    return static_cast<std::uint16_t>(sign | (as_bits(sum) - 0x3f000000));
  }
  const std::uint32_t moved = size - (112u << 23);
  return static_cast<std::uint16_t>(sign |
                                    (moved + 0xfff + (moved >> 13 & 1)) >> 13);
#endif
}

/// Number i of an array of `type`.
AUTOGLM_HOST_DEVICE float number_at(const void* array, NumberType type,
                                    std::int64_t i) {
  switch (type) {
    case NumberType::kBFloat16:
      return from_bf16(static_cast<const std::uint16_t*>(array)[i]);
    case NumberType::kFloat16:
      return from_fp16(static_cast<const std::uint16_t*>(array)[i]);
    default:
      return static_cast<const float*>(array)[i];
  }
}

AUTOGLM_HOST_DEVICE void put_number(void* array, NumberType type,
                                    std::int64_t i, float value) {
  switch (type) {
    case NumberType::kBFloat16:
      static_cast<std::uint16_t*>(array)[i] = to_bf16(value);
      break;
    case NumberType::kFloat16:
      static_cast<std::uint16_t*>(array)[i] = to_fp16(value);
      break;
    default:
      static_cast<float*>(array)[i] = value;
  }
}

/// `value` as it comes back from an array of `type`.
AUTOGLM_HOST_DEVICE float rounded_to(NumberType type, float value) {
  switch (type) {
    case NumberType::kBFloat16:
      return from_bf16(to_bf16(value));
    case NumberType::kFloat16:
      return from_fp16(to_fp16(value));
    default:
      return value;
  }
}

/// Bits of slice 0, 1 or 2 of an fp32 number: three bf16 numbers, cut off
/// rather than rounded, whose sum it is (their 8 bits of mantissa make up the
/// 24, as long as none falls below the smallest exponent).
AUTOGLM_HOST_DEVICE std::uint16_t float_slice(float value, int slice) {
  const bool finite = (as_bits(value) & 0x7f800000) != 0x7f800000;
  if (!finite)
    return slice == 0 ? to_bf16(value) : static_cast<std::uint16_t>(0);
  for (int i = 0; i < slice; ++i)
    value -= as_float(as_bits(value) & 0xffff0000);
  return static_cast<std::uint16_t>(as_bits(value) >> 16);
}

/// The two 16-bit types that tensor cores multiply.
struct BFloat16 {
  static constexpr NumberType kType = NumberType::kBFloat16;
  /// Bits of mantissa. Or-ed with kOffsetPair, a whole number of up to so many
  /// bits becomes 2^kMantissa plus itself.
  static constexpr int kMantissa = 7;
  static constexpr int kExponentBias = 127;
  static constexpr std::uint32_t kOffsetPair = 0x43004300;

  AUTOGLM_HOST_DEVICE static std::uint16_t narrow(float value) {
    return to_bf16(value);
  }
  AUTOGLM_HOST_DEVICE static float widen(std::uint16_t bits) {
    return from_bf16(bits);
  }
  AUTOGLM_HOST_DEVICE static std::uint32_t pair(float low, float high) {
#if defined(__CUDA_ARCH__)
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&both);
#else
    return static_cast<std::uint32_t>(to_bf16(high)) << 16 | to_bf16(low);
#endif
  }
  /// a * b + c, rounded once, for both halves.
  AUTOGLM_HOST_DEVICE static std::uint32_t fma(std::uint32_t a, std::uint32_t b,
                                               std::uint32_t c) {
#if defined(__CUDA_ARCH__)
    const __nv_bfloat162 sum =
        __hfma2(*reinterpret_cast<const __nv_bfloat162*>(&a),
                *reinterpret_cast<const __nv_bfloat162*>(&b),
                *reinterpret_cast<const __nv_bfloat162*>(&c));
    return *reinterpret_cast<const std::uint32_t*>(&sum);
#else
    // Exact in fp32 wherever kernels use it.
    return pair(
        widen(low_half(a)) * widen(low_half(b)) + widen(low_half(c)),
        widen(high_half(a)) * widen(high_half(b)) + widen(high_half(c)));
#endif
  }
};

struct Float16 {
  static constexpr NumberType kType = NumberType::kFloat16;
  static constexpr int kMantissa = 10;
  static constexpr int kExponentBias = 15;
  static constexpr std::uint32_t kOffsetPair = 0x64006400;

  AUTOGLM_HOST_DEVICE static std::uint16_t narrow(float value) {
    return to_fp16(value);
  }
  AUTOGLM_HOST_DEVICE static float widen(std::uint16_t bits) {
    return from_fp16(bits);
  }
  AUTOGLM_HOST_DEVICE static std::uint32_t pair(float low, float high) {
#if defined(__CUDA_ARCH__)
    const __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&both);
#else
    return static_cast<std::uint32_t>(to_fp16(high)) << 16 | to_fp16(low);
#endif
  }
  AUTOGLM_HOST_DEVICE static std::uint32_t fma(std::uint32_t a, std::uint32_t b,
                                               std::uint32_t c) {
#if defined(__CUDA_ARCH__)
    const __half2 sum = __hfma2(*reinterpret_cast<const __half2*>(&a),
                                *reinterpret_cast<const __half2*>(&b),
                                *reinterpret_cast<const __half2*>(&c));
    return *reinterpret_cast<const std::uint32_t*>(&sum);
#else
    return pair(
        widen(low_half(a)) * widen(low_half(b)) + widen(low_half(c)),
        widen(high_half(a)) * widen(high_half(b)) + widen(high_half(c)));
#endif
  }
};

/// 2^exponent in a 16-bit type, for exponents of normal numbers.
template <class Number>
AUTOGLM_HOST_DEVICE constexpr std::uint32_t power_of_two(int exponent) {
  return static_cast<std::uint32_t>(exponent + Number::kExponentBias)
         << Number::kMantissa;
}

}  // namespace autoglm::kernels::cuda
