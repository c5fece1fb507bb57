#include "kernels/cuda/linear_plan.h"

#include <algorithm>

namespace autoglm::kernels::cuda {
namespace {

// Two blocks of this size fit into a processor of compute capability 8.0 or
// 9.0, one into one of 8.6 or 8.9.
constexpr std::int64_t kSharedBudget = 72 * 1024;
// Blocks that keep an H200 (132 processors) reading: one per processor already
// has 32 KB on their way. More splits would cost a second kernel.
constexpr std::int64_t kEnoughBlocks = 132;
// A block that goes on to the next tile reads x once; but the last round of
// blocks should not leave processors idle.
constexpr std::int64_t kRounds = 4;
constexpr std::int64_t kMostTilesPerBlock = 4;
constexpr std::int64_t kMostBlocksY = 65535;  // of a grid

constexpr std::int64_t up(std::int64_t n, std::int64_t unit) {
  return (n + unit - 1) / unit;
}
constexpr std::int64_t aligned(std::int64_t bytes) {
  return up(bytes, 16) * 16;
}

}  // namespace

LinearPlan plan_linear(const LinearShape& shape) {
  LinearPlan plan;
  const std::int64_t most_rows = kColumns / shape.columns_per_row;
  const std::int64_t rows = std::min(shape.rows, most_rows);
  const std::int64_t columns = rows * shape.columns_per_row;
  plan.chunk_rows = static_cast<int>(rows);
  plan.column_pairs =
      std::max(shape.fewest_pairs, columns <= 2 ? 1 : kColumns / 2);
  const std::int64_t steps = up(up(shape.row_words, shape.piece_words), 4);
  const std::int64_t tiles = up(shape.out, kTileRows);
  const std::int64_t sum_bytes = kWarps * kTileRows * 2 * plan.column_pairs * 4;
  const std::int64_t scale_bytes = aligned(kTileRows * shape.scale_bytes);
  const std::int64_t step_bytes = columns * 4 * shape.piece_elements * 2;

  const std::int64_t left = kSharedBudget - sum_bytes - 2 * scale_bytes;
  // A split that is shorter than a step per warp would leave warps idle.
  if (left < step_bytes * std::min<std::int64_t>(steps, kWarps)) return plan;
  const std::int64_t needed = up(steps, left / step_bytes);
  const std::int64_t wanted = std::min(
      up(kEnoughBlocks, tiles), std::max<std::int64_t>(1, steps / kWarps));
  const std::int64_t per_split = up(steps, std::max(needed, wanted));
  const std::int64_t splits = up(steps, per_split);
  const std::int64_t blocks = tiles * splits * up(shape.rows, rows);
  const std::int64_t per_block =
      std::max(std::clamp<std::int64_t>(blocks / (kRounds * kEnoughBlocks), 1,
                                        kMostTilesPerBlock),
               up(tiles, kMostBlocksY));
  plan.fits = true;
  plan.steps = static_cast<int>(steps);
  plan.steps_per_split = static_cast<int>(per_split);
  plan.splits = static_cast<int>(splits);
  plan.tiles = static_cast<int>(tiles);
  plan.tiles_per_block = static_cast<int>(per_block);
  plan.x_bytes = static_cast<std::size_t>(per_split * step_bytes);
  plan.sum_bytes = static_cast<std::size_t>(sum_bytes);
  plan.scale_bytes = static_cast<std::size_t>(scale_bytes);
  plan.shared_bytes = plan.x_bytes + plan.sum_bytes + 2 * plan.scale_bytes;
  return plan;
}

}  // namespace autoglm::kernels::cuda
