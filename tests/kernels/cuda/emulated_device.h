// A CUDA device on the CPU, for tests: what src/kernels/cuda/device.cuh asks
// for, so that the kernels themselves, their index arithmetic and their
// launchers run and are checked without a GPU.
//
// The threads of a block are fibers that take turns; they stop at barriers and
// warp collectives only. What a GPU leaves open is made visible: the order of
// turns can be reversed, shared memory starts as NaN and ends where an
// inaccessible page begins, copies arrive only when they are waited for, and
// unaligned vector loads, lanes that miss a collective and threads that miss a
// barrier are errors.
//
// Included before a .cu file, by emulated_*.cpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

#include "autoglm/kernels/cuda_kernels.h"
#include "tests/kernels/cuda/emulator.h"

#define __global__ inline
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct alignas(8) uint2 {
  std::uint32_t x, y;
};
struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)
      : x(x_), y(y_), z(z_) {}
};

#define threadIdx (autoglm::test::Emulator::get().thread())
#define blockIdx (autoglm::test::Emulator::get().block())
#define gridDim (autoglm::test::Emulator::get().grid())

inline void __syncthreads() { autoglm::test::Emulator::get().barrier(); }

template <class T>
T __shfl_xor_sync(unsigned lanes, T value, int distance) {
  auto& emulator = autoglm::test::Emulator::get();
  emulator.require(lanes == 0xffffffffu, "a shuffle names all lanes");
  const auto* all = emulator.exchange(&value, sizeof value);
  T out;
  std::memcpy(&out, all[emulator.lane() ^ distance], sizeof out);
  return out;
}

inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }

namespace autoglm::kernels::cuda {

template <class T>
T load_constant(const T* from) {
  test::Emulator::get().require_aligned(from, sizeof(T));
  return *from;
}

inline uint4 load_streaming(const uint4* from) { return load_constant(from); }

inline void copy_later(void* shared, const void* from) {
  auto& emulator = test::Emulator::get();
  emulator.require_aligned(shared, 16);
  emulator.require_aligned(from, 16);
  emulator.copy_later(shared, from, 16);
}
inline void wait_for_copies() { test::Emulator::get().wait_for_copies(); }

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(test::Emulator::get().shared());
}

/// The product of fragments as device.cuh lays them out, summed in double.
template <class Widen>
void emulated_multiply_add(Widen&& widen, float (&d)[4],
                           const std::uint32_t (&a)[4], std::uint32_t b0,
                           std::uint32_t b1) {
  const std::uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  auto& emulator = test::Emulator::get();
  const auto* all = emulator.exchange(mine, sizeof mine);
  const auto part = [&](int lane, int word, int half) {
    std::uint32_t bits;
    std::memcpy(&bits, all[lane] + 4 * word, 4);
    return static_cast<double>(widen(
        static_cast<std::uint16_t>(half == 0 ? bits & 0xffff : bits >> 16)));
  };
  // Element [row][k] of a, [k][column] of b, by the lane that holds it.
  const auto left = [&](int row, int k) {
    return part(row % 8 * 4 + k % 8 / 2, row / 8 + 2 * (k / 8), k % 2);
  };
  const auto right = [&](int k, int column) {
    return part(column * 4 + k % 8 / 2, 4 + k / 8, k % 2);
  };
  const int lane = emulator.lane();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
    double sum = d[i];
    for (int k = 0; k < 16; ++k) sum += left(row, k) * right(k, column);
    d[i] = static_cast<float>(sum);
  }
}

template <class... Parameters, class... Arguments>
Status launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads,
              std::size_t shared_bytes, Stream, const Arguments&... arguments) {
  test::Emulator::get().run({grid.x, grid.y, grid.z}, threads, shared_bytes,
                            [&] { kernel(arguments...); });
  return Status::kOk;
}

}  // namespace autoglm::kernels::cuda

#include "kernels/cuda/numbers.cuh"

namespace autoglm::kernels::cuda {

inline void multiply_add_bf16(float (&d)[4], const std::uint32_t (&a)[4],
                              std::uint32_t b0, std::uint32_t b1) {
  emulated_multiply_add(from_bf16, d, a, b0, b1);
}
inline void multiply_add_fp16(float (&d)[4], const std::uint32_t (&a)[4],
                              std::uint32_t b0, std::uint32_t b1) {
  emulated_multiply_add(from_fp16, d, a, b0, b1);
}

}  // namespace autoglm::kernels::cuda
