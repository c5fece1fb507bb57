// What kernels ask of the device, in one place: loads, warp collectives, tensor
// cores, launches.
//
// The files of this folder are compiled twice: by nvcc for a GPU, and by the
// host compiler for the tests, after tests/kernels/cuda/emulated_device.h has
// defined the same things for a CPU. So kernels use from CUDA only what stands
// here: threadIdx, blockIdx, gridDim, __syncthreads, __shfl_xor_sync, uint2,
// uint4, dim3, __fmul_rn and its like, rsqrtf, and the functions below. Every
// thread of a block stays until the end, since collectives and barriers need
// all of them.
#pragma once

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "autoglm/kernels/cuda_kernels.h"

namespace autoglm::kernels::cuda {

/// 16 bytes that no other thread will ask for: they pass the L1 cache by.
__device__ __forceinline__ uint4 load_streaming(const uint4* from) {
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(from));
  return v;
}

/// Numbers that nothing writes during the kernel.
template <class T>
__device__ __forceinline__ T load_constant(const T* from) {
  return __ldg(from);
}

/// Copies 16 bytes, both sides aligned to 16, into shared memory while the
/// thread goes on. Visible to the block after every thread has waited and then
/// passed a __syncthreads().
__device__ __forceinline__ void copy_later(void* shared, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(shared))),
                 "l"(from)
               : "memory");
}
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

/// The block's dynamic shared memory; aligned to 16 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ uint4 autoglm_dynamic_shared[];
  return reinterpret_cast<T*>(autoglm_dynamic_shared);
}

/// d += a * b on tensor cores, a [16, 16] by rows, b [16, 8] by columns, of
/// bf16, products exact, sums in fp32. With g = lane / 4 and t = lane % 4, the
/// lane holds
///   a[0]: row g, columns 2t, 2t + 1    a[1]: row g + 8, the same columns
///   a[2]: row g, columns 2t + 8, + 9   a[3]: row g + 8, the same columns
///   b0: rows 2t, 2t + 1 of column g    b1: rows 2t + 8, + 9
///   d[0], d[1]: row g, columns 2t, 2t + 1;   d[2], d[3]: row g + 8.
/// (PTX ISA, "Matrix Fragments for mma.m16n8k16".)
__device__ __forceinline__ void multiply_add_bf16(float (&d)[4],
                                                  const std::uint32_t (&a)[4],
                                                  std::uint32_t b0,
                                                  std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// The same with fp16 factors.
__device__ __forceinline__ void multiply_add_fp16(float (&d)[4],
                                                  const std::uint32_t (&a)[4],
                                                  std::uint32_t b0,
                                                  std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Starts the kernel; the error, if any, stays for cudaGetLastError.
template <class... Parameters, class... Arguments>
Status launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads,
              std::size_t shared_bytes, Stream stream,
              const Arguments&... arguments) {
  // More than 48 KB have to be asked for.
  if (shared_bytes > 48 * 1024 &&
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(shared_bytes)) != cudaSuccess)
    return Status::kLaunchFailed;
  kernel<<<grid, threads, shared_bytes, stream>>>(arguments...);
  return cudaPeekAtLastError() == cudaSuccess ? Status::kOk
                                              : Status::kLaunchFailed;
}

}  // namespace autoglm::kernels::cuda
#endif  // __CUDACC__

namespace autoglm::kernels::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

/// The sum over the 32 lanes of a warp, in every lane; always in the same
/// order.
__device__ __forceinline__ float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

/// The greater number; NaN if there is one.
__device__ __forceinline__ float maximum(float a, float b) {
  return a > b || a != a ? a : b;
}

__device__ __forceinline__ float warp_maximum(float value) {
  for (int distance = 16; distance > 0; distance /= 2)
    value = maximum(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

}  // namespace autoglm::kernels::cuda
