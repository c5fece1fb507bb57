// y = x * W^T for few rows of x: a pass over the codes of W at the speed of
// memory.
//
// A warp multiplies 16 rows of W. In a step each lane reads one piece
// (packed_codes.cuh) of row g and one of row g + 8, where g = lane / 4 and the
// four lanes of a row read neighbouring pieces. Decoded, these are the left
// factor of an mma.m16n8k16 whose k counts elements in the lanes' own order.
// The right factor is x, with a column for each row of x *and each of the four
// lanes*: column 4 m + t has row m of x at the elements of lane t and zeros at
// those of the other three. So an output of the mma is the sum over one piece
// alone, and pieces of one row may have scales of their own; two rows of x fill
// the 8 columns, and `kPairs` mmas take 2 * kPairs rows. Codes are decoded
// exactly, whatever the number of rows.
//
// The 8 warps of a block share the steps of a tile; where there are few tiles,
// blocks share them too and a second kernel adds up their sums. All sums are
// made in a fixed order.
#pragma once

#include "kernels/cuda/linear_task.cuh"

namespace autoglm::kernels::cuda {

__device__ __forceinline__ void multiply_add(BFloat16, float (&d)[4],
                                             const std::uint32_t (&a)[4],
                                             std::uint32_t b0,
                                             std::uint32_t b1) {
  multiply_add_bf16(d, a, b0, b1);
}
__device__ __forceinline__ void multiply_add(Float16, float (&d)[4],
                                             const std::uint32_t (&a)[4],
                                             std::uint32_t b0,
                                             std::uint32_t b1) {
  multiply_add_fp16(d, a, b0, b1);
}

/// Scales of two groups each of two rows: [row][group], from shared memory.
__device__ __forceinline__ void read_scales(const void* scales, NumberType type,
                                            const int (&row_at)[2],
                                            const int (&groups)[2],
                                            float (&out)[2][2]) {
  // One branch for all four.
  if (type == NumberType::kBFloat16) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      out[i / 2][i % 2] = from_bf16(static_cast<const std::uint16_t*>(
          scales)[row_at[i / 2] + groups[i % 2]]);
  } else if (type == NumberType::kFloat16) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      out[i / 2][i % 2] = from_fp16(static_cast<const std::uint16_t*>(
          scales)[row_at[i / 2] + groups[i % 2]]);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      out[i / 2][i % 2] =
          static_cast<const float*>(scales)[row_at[i / 2] + groups[i % 2]];
  }
}

/// Adds a step's products to `total`: [pair][row g or g + 8]. row_at: where
/// these two rows' scales start. x: of the lane's piece.
template <class Format, class Number, int kPairs>
__device__ __forceinline__ void multiply_step(
    const LinearTask& task, const Stage<Format>& stage, int step,
    const int (&row_at)[2], const char* scales, const std::uint32_t* x,
    int x_stride, int columns, float (&total)[kPairs][2]) {
  using Offset = typename Format::template Offset<Number>;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int group = lane / 4, own = lane % 4;
  const bool has_x = group % 4 == own;
  const auto* zeros = reinterpret_cast<const std::uint8_t*>(
      scales + kTileRows * task.groups * task.scale_size());
  int zero[2] = {task.zero, task.zero};
  float sum[kPairs][4] = {};
#pragma unroll
  for (int part = 0; part < Format::kParts; ++part) {
    const auto group_of_piece = [&](int piece) {
      return task.group_of((step * 4 + piece) * Format::kParts + part);
    };
    if (Format::kHasZeros && task.zeros != nullptr &&
        (part == 0 || task.group_per_part)) {
      const int at = group_of_piece(own);
      zero[0] = zeros[row_at[0] + at];
      zero[1] = zeros[row_at[1] + at];
    }
    const Offset offset[2] = {Offset(zero[0]), Offset(zero[1])};
    constexpr int kQuads = Format::kPartElements / 8;  // of pairs
#pragma unroll
    for (int quad = 0; quad < kQuads; ++quad) {
      uint4 b[kPairs];
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
        const int column = 2 * p + group / 4;
        b[p] = {0, 0, 0, 0};
        if (has_x && column < columns)
          b[p] = *reinterpret_cast<const uint4*>(
              x + column * x_stride + part * Format::kPartElements / 2 +
              quad * 4);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          a[i] = Format::template decode<Number>(
              stage.words[i % 2] + part * Format::kPartWords,
              quad * 4 + half * 2 + i / 2, offset[i % 2]);
#pragma unroll
        for (int p = 0; p < kPairs; ++p)
          multiply_add(Number(), sum[p], a, half == 0 ? b[p].x : b[p].z,
                       half == 0 ? b[p].y : b[p].w);
      }
    }
    if (part + 1 < Format::kParts && !task.group_per_part) continue;
    // The lane's outputs are columns 2 own and 2 own + 1: two pieces.
    const int piece = 2 * (own % 2);
    const int groups[2] = {group_of_piece(piece), group_of_piece(piece + 1)};
    float scale[2][2];
    read_scales(scales, task.scale_type, row_at, groups, scale);
#pragma unroll
    for (int p = 0; p < kPairs; ++p)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        total[p][i / 2] += scale[i / 2][i % 2] * sum[p][i];
        sum[p][i] = 0;
      }
  }
}

/// Adds up what the warps have, [warp][tile row][2 * kPairs], and writes it.
template <int kPairs>
__device__ void write_tile(const LinearTask& task, int tile,
                           std::int64_t first_row, int rows,
                           const float* shared) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * kTileRows;
       i += kWarps * 32) {
    const int m = i / kTileRows, r = i % kTileRows;
    const int o = tile * kTileRows + r;
    if (o >= task.out) continue;
    float sum = 0;
    for (int c = m * task.columns_per_row; c < (m + 1) * task.columns_per_row;
         ++c)
      for (int warp = 0; warp < kWarps; ++warp)
        sum += shared[(warp * kTileRows + r) * 2 * kPairs + c];
    const std::int64_t row = first_row + m;
    if (task.sums != nullptr)
      task.sums[(blockIdx.z * task.rows + row) * task.out + o] = sum;
    else
      task.write(row, o, sum);
  }
}

/// Grid: chunks of rows, blocks of tiles, splits.
template <class Format, class Number, int kPairs>
__global__ void __launch_bounds__(kWarps * 32, 2)
    few_rows_kernel(const LinearTask task) {
  const LinearPlan& plan = task.plan;
  char* memory = dynamic_shared<char>();
  auto* x = reinterpret_cast<std::uint32_t*>(memory);
  auto* sums = reinterpret_cast<float*>(memory + plan.x_bytes);
  char* scales = memory + plan.x_bytes + plan.sum_bytes;  // two buffers

  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t first_row =
      static_cast<std::int64_t>(blockIdx.x) * plan.chunk_rows;
  const int rows = task.rows - first_row < plan.chunk_rows
                       ? static_cast<int>(task.rows - first_row)
                       : plan.chunk_rows;
  const int columns = rows * task.columns_per_row;
  const int first_step = static_cast<int>(blockIdx.z) * plan.steps_per_split;
  const int last_step = first_step + plan.steps_per_split < plan.steps
                            ? first_step + plan.steps_per_split
                            : plan.steps;
  const int pairs = plan.steps_per_split * 2 * Format::kElements;
  int tile = static_cast<int>(blockIdx.y) * plan.tiles_per_block;
  const int last_tile = tile + plan.tiles_per_block < plan.tiles
                            ? tile + plan.tiles_per_block
                            : plan.tiles;

  constexpr int kRing = kStages<Format>;
  Stage<Format> ring[kRing];
  const std::uint32_t* row[2];
  int row_at[2];
  const auto enter_tile = [&](int t) {
    for (int r = 0; r < 2; ++r) {
      const int o = t * kTileRows + lane / 4 + 8 * r;
      const int bounded = o < task.out ? o : task.out - 1;
      row_at[r] = (bounded - t * kTileRows) * task.groups;
      row[r] = task.codes + static_cast<std::int64_t>(bounded) * task.row_words;
    }
  };
  const auto load = [&](Stage<Format>& stage, int step) {
    if (step >= last_step) return;
    for (int r = 0; r < 2; ++r)
      load_piece<Format>(row[r], task.row_words, step * 4 + lane % 4,
                         stage.words[r]);
  };

  enter_tile(tile);
#pragma unroll
  for (int s = 0; s < kRing; ++s) load(ring[s], first_step + warp + s * kWarps);
  copy_scales(task, tile, scales);
  place_x<Format, Number>(task, first_row, columns,
                          first_step * 4 * Format::kElements, pairs, x);
  wait_for_copies();
  __syncthreads();

  for (int turn = 0; tile < last_tile; ++tile, turn ^= 1) {
    float total[kPairs][2] = {};
    for (int base = first_step + warp; base < last_step;
         base += kRing * kWarps) {
#pragma unroll
      for (int s = 0; s < kRing; ++s) {
        const int step = base + s * kWarps;
        if (step >= last_step) break;
        multiply_step<Format, Number, kPairs>(
            task, ring[s], step, row_at, scales + turn * plan.scale_bytes,
            x + ((step - first_step) * 4 + lane % 4) * (Format::kElements / 2),
            pairs, columns, total);
        load(ring[s], step + kRing * kWarps);
      }
    }
    if (tile + 1 < last_tile) {
      enter_tile(tile + 1);
#pragma unroll
      for (int s = 0; s < kRing; ++s)
        load(ring[s], first_step + warp + s * kWarps);
      copy_scales(task, tile + 1, scales + (turn ^ 1) * plan.scale_bytes);
    }
    // Lanes of an even number and their neighbours hold two pieces each.
#pragma unroll
    for (int p = 0; p < kPairs; ++p)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float sum =
            total[p][r] + __shfl_xor_sync(kAllLanes, total[p][r], 1);
        if (lane % 2 == 0)
          sums[(warp * kTileRows + lane / 4 + 8 * r) * 2 * kPairs + 2 * p +
               lane % 4 / 2] = sum;
      }
    __syncthreads();
    write_tile<kPairs>(task, tile, first_row, rows, sums);
    wait_for_copies();
    __syncthreads();
  }
}

}  // namespace autoglm::kernels::cuda
