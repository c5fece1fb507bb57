// What few_rows_kernel (linear.cuh) works on, and how it gets there: codes into
// registers, scales and x into shared memory.
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/linear_plan.h"
#include "kernels/cuda/packed_codes.cuh"

namespace autoglm::kernels::cuda {

/// What a kernel has to know; see LinearArguments and LinearPlan.
struct LinearTask {
  const std::uint32_t* codes;
  const void* scales;
  const std::uint8_t* zeros;  // null: `zero` for all
  NumberType scale_type, x_type, bias_type, y_type;
  int zero;
  int row_words, out, in, groups, group_size;
  std::uint32_t group_factor;  // of parts, see group_of_part
  bool group_per_part;         // a piece may hold several groups
  int columns_per_row;
  std::int64_t rows;
  const void* x;
  const float* row_steps;
  const void* bias;
  void* y;
  float* sums;  // [splits, rows, out], or null for one split
  LinearPlan plan;

  /// What becomes of a sum.
  __device__ void write(std::int64_t row, std::int64_t o, float sum) const {
    if (row_steps != nullptr) sum *= row_steps[row];
    if (bias != nullptr) sum += number_at(bias, bias_type, o);
    put_number(y, y_type, row * out + o, sum);
  }
  /// Of a part of a row; parts beyond its end count as the last.
  AUTOGLM_HOST_DEVICE int group_of(int part) const {
    const int group = group_of_part(part, group_factor);
    return group < groups ? group : groups - 1;
  }
  AUTOGLM_HOST_DEVICE int scale_size() const {
    return scale_type == NumberType::kFloat32 ? 4 : 2;
  }
};

/// Pieces that are on their way: of rows g and g + 8.
template <class Format>
struct Stage {
  std::uint32_t words[2][Format::kWords];
};

/// At least 4 loads of 16 bytes per lane are in flight.
template <class Format>
constexpr int kStages = Format::kWords <= 8    ? 4
                        : Format::kWords <= 12 ? 2
                                               : 1;

template <class Format>
__device__ __forceinline__ void load_piece(const std::uint32_t* row,
                                           int row_words, int piece,
                                           std::uint32_t* words) {
  const int begin = piece * Format::kWords;
  if constexpr (Format::kWide) {
#pragma unroll
    for (int i = 0; i < Format::kWords; i += 4) {
      uint4 v = {0, 0, 0, 0};
      if (begin + i < row_words) {
        const auto* from = reinterpret_cast<const uint4*>(row + begin + i);
        // Pieces of 48 bytes and more share sectors between loads.
        v = Format::kWords == 4 ? load_streaming(from) : load_constant(from);
      }
      words[i] = v.x;
      words[i + 1] = v.y;
      words[i + 2] = v.z;
      words[i + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < Format::kWords; ++i)
      words[i] = begin + i < row_words ? load_constant(row + begin + i) : 0;
  }
}

/// Scales, then zeros, of the tile's rows into shared memory. Rows lie one
/// after the other, so a tile is one run that starts at 16 bytes.
__device__ __forceinline__ void copy_run(char* shared, const char* from,
                                         std::int64_t bytes) {
  const std::int64_t whole = bytes / 16 * 16;
  for (std::int64_t i = threadIdx.x * 16; i < whole; i += kWarps * 32 * 16)
    copy_later(shared + i, from + i);
  for (std::int64_t i = whole + threadIdx.x; i < bytes; i += kWarps * 32)
    shared[i] = from[i];
}

__device__ __forceinline__ void copy_scales(const LinearTask& task, int tile,
                                            char* shared) {
  const std::int64_t first = static_cast<std::int64_t>(tile) * kTileRows;
  const std::int64_t rows =
      task.out - first < kTileRows ? task.out - first : kTileRows;
  const std::int64_t size = task.scale_size();
  copy_run(shared,
           static_cast<const char*>(task.scales) + first * task.groups * size,
           rows * task.groups * size);
  if (task.zeros != nullptr)
    copy_run(shared + kTileRows * task.groups * size,
             reinterpret_cast<const char*>(task.zeros) + first * task.groups,
             rows * task.groups);
}

/// Elements [begin, begin + 2 * pairs) of the block's rows of x as columns of
/// pairs [column][pairs], in the order of the parts; zeros beyond the row.
template <class Format, class Number>
__device__ void place_x(const LinearTask& task, std::int64_t first_row,
                        int columns, int begin, int pairs,
                        std::uint32_t* shared) {
  constexpr int kPartPairs = Format::kPartElements / 2;
  for (int column = 0; column < columns; ++column) {
    const std::int64_t row =
        (first_row + column / task.columns_per_row) * task.in;
    const int slice = column % task.columns_per_row;
    for (int j = static_cast<int>(threadIdx.x); j < pairs; j += kWarps * 32) {
      const int part = begin + j / kPartPairs * Format::kPartElements;
      std::uint32_t pair = 0;
      for (int half = 0; half < 2; ++half) {
        const int k = part + pair_element(Format::kBits, j % kPartPairs, half);
        if (k >= task.in) continue;
        const std::uint32_t bits =
            task.columns_per_row > 1
                ? float_slice(static_cast<const float*>(task.x)[row + k], slice)
                : static_cast<const std::uint16_t*>(task.x)[row + k];
        pair |= bits << 16 * half;
      }
      shared[column * pairs + j] = pair;
    }
  }
}

}  // namespace autoglm::kernels::cuda
