// How a product with few rows is cut into blocks of threads. Host code: the
// same sizes give the same cut on every GPU, so that a result does not depend
// on the number of its processors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace autoglm::kernels::cuda {

constexpr int kWarps = 8;         // of a block; they share the steps of a tile
constexpr int kTileRows = 16;     // rows of the weight that a warp multiplies
constexpr int kColumns = 8;       // columns of x, per launch at most
constexpr int kFloatColumns = 3;  // bf16 columns that make up an fp32 one

/// What the layout of a weight means for the cut.
struct LinearShape {
  std::int64_t out, in, rows;
  std::int64_t row_words;  // 32-bit words of a row of codes
  int piece_words;         // see packed_codes.cuh
  int piece_elements;
  std::int64_t scale_bytes;  // of scales and zeros of one row
  int columns_per_row;       // 1, or kFloatColumns for fp32
  int fewest_pairs;          // of columns that there is an instance for
};

struct LinearPlan {
  bool fits = false;     // false: the scales of a tile do not fit; slow kernel
  int chunk_rows = 0;    // rows of x that a block multiplies
  int column_pairs = 0;  // 1 or 4: at least half the columns of x
  int steps = 0;         // of 4 pieces, along a row
  int steps_per_split = 0;
  int splits = 0;  // blocks that share the steps of a tile
  int tiles = 0;
  int tiles_per_block = 0;
  std::size_t x_bytes = 0;  // of shared memory
  std::size_t sum_bytes = 0;
  std::size_t scale_bytes = 0;   // of one of the two buffers
  std::size_t shared_bytes = 0;  // in all

  int chunks(std::int64_t rows) const {
    return static_cast<int>((rows + chunk_rows - 1) / chunk_rows);
  }
  int tile_blocks() const {
    return (tiles + tiles_per_block - 1) / tiles_per_block;
  }
  /// Sums of the splits, [splits, rows, out] fp32; none for one split.
  std::int64_t workspace(std::int64_t rows, std::int64_t out) const {
    return splits > 1 ? splits * rows * out * 4 : 0;
  }
};

LinearPlan plan_linear(const LinearShape& shape);

}  // namespace autoglm::kernels::cuda
