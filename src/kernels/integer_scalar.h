// The vector interface of integer_loops.h in plain loops: the reference that
// runs everywhere.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/integer_loops.h"

namespace autoglm::kernels {
namespace {

struct ScalarInteger {
  struct Bytes {
    std::uint8_t at[64];
  };
  struct Ints {
    std::int32_t at[16];
  };
  struct Floats {
    float at[16];
  };
  static constexpr int kTiles = 1, kTokens = 1;

  static Bytes load(const std::uint8_t* p) { return copy<Bytes>(p); }
  static void store(std::uint8_t* p, const Bytes& v) {
    std::memcpy(p, v.at, 64);
  }
  static void prefetch(const std::uint8_t*) {}
  // Bits that cross from one byte of a 16-bit lane to the other are masked off
  // by all callers, so bytes may be moved one by one.
  static Bytes right_by(Bytes v, int s) {
    for (std::uint8_t& byte : v.at) byte = static_cast<std::uint8_t>(byte >> s);
    return v;
  }
  template <int S>
  static Bytes right(const Bytes& v) {
    return right_by(v, S);
  }
  template <int S>
  static Bytes left(Bytes v) {
    for (std::uint8_t& byte : v.at) byte = static_cast<std::uint8_t>(byte << S);
    return v;
  }
  static Bytes keep(Bytes v, int mask) {
    for (std::uint8_t& byte : v.at)
      byte = static_cast<std::uint8_t>(byte & mask);
    return v;
  }
  static Bytes merge(Bytes v, const Bytes& more, int mask) {
    for (int i = 0; i < 64; ++i)
      v.at[i] = static_cast<std::uint8_t>(v.at[i] | (more.at[i] & mask));
    return v;
  }

  static Ints broadcast(std::int32_t value) {
    Ints v;
    for (std::int32_t& lane : v.at) lane = value;
    return v;
  }
  static Ints load_ints(const std::int32_t* p) { return copy<Ints>(p); }
  static void store_ints(std::int32_t* p, const Ints& v) {
    std::memcpy(p, v.at, 64);
  }
  static Ints widen_zeros(const std::uint8_t* p) {
    Ints v;
    for (int r = 0; r < 16; ++r) v.at[r] = p[r];
    return v;
  }
  static Ints add(Ints a, const Ints& b) {
    for (int r = 0; r < 16; ++r) a.at[r] += b.at[r];
    return a;
  }
  static Ints times(Ints a, std::int32_t b) {
    for (std::int32_t& lane : a.at) lane *= b;
    return a;
  }
  template <bool>
  static Ints dot(Ints sum, const Bytes& codes, const std::int8_t* p) {
    for (int r = 0; r < 16; ++r)
      for (int i = 0; i < 4; ++i) sum.at[r] += codes.at[4 * r + i] * p[i];
    return sum;
  }

  static Floats load_floats(const float* p) { return copy<Floats>(p); }
  static void store_floats(float* p, const Floats& v) {
    std::memcpy(p, v.at, 64);
  }
  static Floats load_scales(const void* scales, ScaleType type,
                            std::int64_t index) {
    Floats v;
    for (int r = 0; r < 16; ++r) v.at[r] = scale_at(scales, type, index + r);
    return v;
  }
  static Floats to_floats(const Ints& a) {
    Floats v;
    for (int r = 0; r < 16; ++r) v.at[r] = static_cast<float>(a.at[r]);
    return v;
  }
  static Floats scale_add(const Floats& a, const Floats& scale, float factor,
                          Floats sum) {
    for (int r = 0; r < 16; ++r)
      sum.at[r] = __builtin_fmaf(a.at[r] * scale.at[r], factor, sum.at[r]);
    return sum;
  }

  static std::uint32_t largest(const float* p, std::int64_t n) {
    std::uint32_t most = 0;
    for (std::int64_t k = 0; k < n; ++k)
      most =
          std::max(most, __builtin_bit_cast(std::uint32_t, p[k]) & 0x7fffffffu);
    return most;
  }
  static std::int32_t round(const float* p, float step, std::int8_t* out) {
    // Adding this leaves no bits behind the point: rounds half to even.
    constexpr float kWhole = 12582912;  // 1.5 * 2^23
    std::int32_t sum = 0;
    for (int k = 0; k < 16; ++k) {
      const float v = std::max(std::min(p[k] / step, 127.0f), -127.0f);
      out[k] = static_cast<std::int8_t>((v + kWhole) - kWhole);
      sum += out[k];
    }
    return sum;
  }

 private:
  template <class T>
  static T copy(const void* p) {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
};

}  // namespace
}  // namespace autoglm::kernels
