// Weights as numbers, for products with many rows.
#include <algorithm>

#include "kernels/cuda/checks.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/packed_codes.cuh"

namespace autoglm::kernels::cuda {
namespace {

constexpr int kRun = 8;  // elements of a thread: 16 bytes of 16-bit numbers
constexpr unsigned kThreads = 256;

struct UnpackTask {
  const std::uint32_t* codes;
  const void* scales;
  const std::uint8_t* zeros;  // null: `zero` for all
  NumberType scale_type, out_type;
  int bits;  // 0: e4m3
  int zero, in, groups, group_size, row_words;
  std::int64_t row_begin, rows;
  void* out;
  bool whole_runs;  // runs start at 16 bytes of a 16-bit `out`, none is cut
};

// 64 bits of the row from `bit` on.
__device__ __forceinline__ std::uint64_t take_bits(const std::uint32_t* row,
                                                   int words,
                                                   std::int64_t bit) {
  const int first = static_cast<int>(bit / 32);
  const int shift = static_cast<int>(bit % 32);
  std::uint32_t word[3];
#pragma unroll
  for (int i = 0; i < 3; ++i)
    word[i] = first + i < words ? load_constant(row + first + i) : 0;
  return static_cast<std::uint64_t>(funnel(word[1], word[2], shift)) << 32 |
         funnel(word[0], word[1], shift);
}

__device__ __forceinline__ void unpack_run(const UnpackTask& task,
                                           std::int64_t row, int k, int count,
                                           float (&out)[kRun]) {
  const std::int64_t at = row * task.groups;
  if (task.bits == 0) {
    const float scale = number_at(task.scales, task.scale_type, at);
    const auto* bytes =
        reinterpret_cast<const std::uint8_t*>(task.codes) + row * task.in + k;
#pragma unroll
    for (int i = 0; i < kRun; ++i)
      if (i < count) out[i] = float8_value(bytes[i]) * scale;
    return;
  }
  std::uint64_t codes =
      take_bits(task.codes + row * task.row_words, task.row_words,
                static_cast<std::int64_t>(k) * task.bits);
  int group = -1;
  float scale = 0;
  int zero = task.zero;
#pragma unroll
  for (int i = 0; i < kRun; ++i, codes >>= task.bits) {
    if (i >= count) break;
    const int mine = (k + i) / task.group_size;
    if (mine != group) {
      group = mine;
      scale = number_at(task.scales, task.scale_type, at + group);
      if (task.zeros != nullptr) zero = task.zeros[at + group];
    }
    const auto code = static_cast<int>(codes & ((1u << task.bits) - 1));
    out[i] = static_cast<float>(code - zero) * scale;
  }
}

// Grid: runs of a row, rows.
__global__ void __launch_bounds__(kThreads)
    unpack_kernel(const UnpackTask task) {
  const int k = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * kRun;
  if (k >= task.in) return;
  const int count = task.in - k < kRun ? task.in - k : kRun;
  for (std::int64_t row = blockIdx.y; row < task.rows; row += gridDim.y) {
    float values[kRun] = {};
    unpack_run(task, task.row_begin + row, k, count, values);
    const std::int64_t at = row * task.in + k;
    if (task.whole_runs) {
      const bool bf16 = task.out_type == NumberType::kBFloat16;
      std::uint32_t pairs[kRun / 2];
#pragma unroll
      for (int i = 0; i < kRun / 2; ++i)
        pairs[i] = bf16 ? BFloat16::pair(values[2 * i], values[2 * i + 1])
                        : Float16::pair(values[2 * i], values[2 * i + 1]);
      *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(task.out) + at) = {
          pairs[0], pairs[1], pairs[2], pairs[3]};
    } else {
#pragma unroll
      for (int i = 0; i < kRun; ++i)
        if (i < count) put_number(task.out, task.out_type, at + i, values[i]);
    }
  }
}

Status run(UnpackTask task, std::int64_t out_rows, std::int64_t row_begin,
           std::int64_t row_end, void* out, NumberType out_type,
           Stream stream) {
  if (row_begin < 0 || row_end < row_begin || row_end > out_rows)
    return Status::kBadSize;
  if (!is_aligned(out, size_of(out_type))) return Status::kBadAlignment;
  if (row_begin == row_end) return Status::kOk;
  task.row_begin = row_begin;
  task.rows = row_end - row_begin;
  task.out = out;
  task.out_type = out_type;
  task.whole_runs =
      size_of(out_type) == 2 && task.in % kRun == 0 && is_aligned(out, 16);
  constexpr std::int64_t kPerBlock = kRun * static_cast<int>(kThreads);
  const dim3 grid(
      static_cast<unsigned>((task.in + kPerBlock - 1) / kPerBlock),
      static_cast<unsigned>(std::min<std::int64_t>(task.rows, 65535)));
  return launch(unpack_kernel, grid, kThreads, 0, stream, task);
}

}  // namespace

Status unpack_rows(const PackedMatrix& weight, std::int64_t row_begin,
                   std::int64_t row_end, void* out, NumberType out_type,
                   Stream stream) {
  if (const Status s = check(weight); s != Status::kOk) return s;
  UnpackTask task = {};
  task.codes = weight.codes;
  task.scales = weight.scales;
  task.zeros = weight.zeros;
  task.scale_type = weight.scale_type;
  task.bits = weight.bits;
  task.zero = 1 << (weight.bits - 1);
  task.in = static_cast<int>(weight.in);
  task.groups = static_cast<int>(weight.groups());
  task.group_size = static_cast<int>(std::min(weight.group_size, weight.in));
  task.row_words = static_cast<int>(weight.words());
  return run(task, weight.out, row_begin, row_end, out, out_type, stream);
}

Status unpack_rows(const Float8Matrix& weight, std::int64_t row_begin,
                   std::int64_t row_end, void* out, NumberType out_type,
                   Stream stream) {
  if (const Status s = check(weight); s != Status::kOk) return s;
  UnpackTask task = {};
  task.codes = reinterpret_cast<const std::uint32_t*>(weight.values);
  task.scales = weight.scales;
  task.scale_type = weight.scale_type;
  task.in = static_cast<int>(weight.in);
  task.groups = 1;
  task.group_size = task.in;
  return run(task, weight.out, row_begin, row_end, out, out_type, stream);
}

}  // namespace autoglm::kernels::cuda
