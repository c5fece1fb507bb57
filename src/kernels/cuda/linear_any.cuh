// Products with few rows for layouts that linear.cuh does not take, and the
// second kernel for rows of W that several blocks share.
#pragma once

#include "kernels/cuda/linear.cuh"

namespace autoglm::kernels::cuda {

/// One element of W. bits 0: e4m3 bytes.
__device__ __forceinline__ float any_weight(const LinearTask& task, int bits,
                                            std::int64_t o, int k) {
  const std::int64_t at = o * task.groups + k / task.group_size;
  const float scale = number_at(task.scales, task.scale_type, at);
  if (bits == 0)
    return scale * float8_value(reinterpret_cast<const std::uint8_t*>(
                       task.codes)[o * task.in + k]);
  const int zero = task.zeros != nullptr ? task.zeros[at] : task.zero;
  const int code = code_at(
      task.codes + o * static_cast<std::int64_t>(task.row_words), k, bits);
  return scale * static_cast<float>(code - zero);
}

/// A warp per row of W, for up to kColumns rows of x. Grid: chunks of rows,
/// blocks of kWarps rows of W. bits 0: e4m3.
__global__ void __launch_bounds__(kWarps * 32)
    any_layout_kernel(const LinearTask task, int bits) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t first_row =
      static_cast<std::int64_t>(blockIdx.x) * kColumns;
  const int rows = task.rows - first_row < kColumns
                       ? static_cast<int>(task.rows - first_row)
                       : kColumns;
  for (std::int64_t o = blockIdx.y * kWarps + threadIdx.x / 32; o < task.out;
       o += static_cast<std::int64_t>(gridDim.y) * kWarps) {
    float sum[kColumns] = {};
    for (int k = lane; k < task.in; k += 32) {
      const float weight = any_weight(task, bits, o, k);
#pragma unroll
      for (int m = 0; m < kColumns; ++m)
        if (m < rows)
          sum[m] += weight * number_at(task.x, task.x_type,
                                       (first_row + m) * task.in + k);
    }
#pragma unroll
    for (int m = 0; m < kColumns; ++m) {
      const float value = warp_sum(sum[m]);
      if (lane == 0 && m < rows) task.write(first_row + m, o, value);
    }
  }
}

/// y from the sums of all splits, in their order. A thread per output.
__global__ void __launch_bounds__(256)
    add_splits_kernel(const LinearTask task) {
  const std::int64_t count = task.rows * task.out;
  const std::int64_t i =
      static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= count) return;
  float sum = 0;
  for (int split = 0; split < task.plan.splits; ++split)
    sum += task.sums[split * count + i];
  task.write(i / task.out, i % task.out, sum);
}

}  // namespace autoglm::kernels::cuda
