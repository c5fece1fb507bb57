// Starts the instance of few_rows_kernel that a task needs. The instances are
// spread over several files, so that they compile side by side.
#pragma once

#include "kernels/cuda/linear.cuh"

namespace autoglm::kernels::cuda {

/// `bits` 0: e4m3. One file each defines these.
Status launch_wide_bf16(int bits, const LinearTask& task, Stream stream);
Status launch_wide_fp16(int bits, const LinearTask& task, Stream stream);
Status launch_narrow_bf16(int bits, const LinearTask& task, Stream stream);
Status launch_narrow_fp16(int bits, const LinearTask& task, Stream stream);

template <class Format, class Number, int kPairs>
Status launch_instance(const LinearTask& task, Stream stream) {
  const LinearPlan& plan = task.plan;
  const dim3 grid(static_cast<unsigned>(plan.chunks(task.rows)),
                  static_cast<unsigned>(plan.tile_blocks()),
                  static_cast<unsigned>(plan.splits));
  return launch(few_rows_kernel<Format, Number, kPairs>, grid, kWarps * 32,
                plan.shared_bytes, stream, task);
}

// Instances are few, since each takes seconds to compile. Narrow layouts are
// rare: one serves all numbers of rows.
constexpr int kMostPairs = kColumns / 2;

template <class Format, class Number>
Status launch_format(const LinearTask& task, Stream stream) {
  if constexpr (Format::kWide) {
    if (task.plan.column_pairs == 1)
      return launch_instance<Format, Number, 1>(task, stream);
  }
  return launch_instance<Format, Number, kMostPairs>(task, stream);
}

template <class Number, bool kWide>
Status launch_bits(int bits, const LinearTask& task, Stream stream) {
  switch (bits) {
    case 0:
      return launch_format<Float8Format<kWide>, Number>(task, stream);
    case 2:
      return launch_format<PackedFormat<2, kWide>, Number>(task, stream);
    case 3:
      return launch_format<PackedFormat<3, kWide>, Number>(task, stream);
    case 4:
      return launch_format<PackedFormat<4, kWide>, Number>(task, stream);
    case 5:
      return launch_format<PackedFormat<5, kWide>, Number>(task, stream);
    case 6:
      return launch_format<PackedFormat<6, kWide>, Number>(task, stream);
    case 7:
      return launch_format<PackedFormat<7, kWide>, Number>(task, stream);
    default:
      return launch_format<PackedFormat<8, kWide>, Number>(task, stream);
  }
}

}  // namespace autoglm::kernels::cuda
