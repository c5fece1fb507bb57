// What an instruction set offers for the integer product.
#pragma once

#include "autoglm/kernels/interleaved.h"

namespace autoglm::kernels {

/// IntegerRows as plain pointers.
struct RowsView {
  const std::int8_t* values;
  const float* steps;
  const std::int32_t* minus_sums;
  std::int64_t rows, panel_rows, quads, spans;
};

/// Where a rounded row goes: quads every `stride` bytes, steps and sums every
/// `panel_rows` numbers.
struct RowTarget {
  std::int8_t* values;
  float* steps;
  std::int32_t* minus_sums;
  std::int64_t stride, panel_rows;
};

/// Rows of x between two expansions of the same weights; a multiple of 12.
constexpr int kStripRows = 516;
/// Tiles that share a reading of x.
constexpr int kBlockTiles = 8;
/// Floats of scratch memory, aligned to 64 bytes, for more than 4 rows of x.
constexpr int kScratch = kStripRows * kBlockTiles * kTileRows;

struct IntegerImplementation {
  const char* name;
  void (*linear)(const InterleavedMatrix&, const RowsView&, float* y,
                 std::int64_t tile_begin, std::int64_t tile_end,
                 float* scratch);
  /// x [in]; a null `given_step`: every span's own.
  void (*round_row)(const float* x, std::int64_t in, std::int64_t group_size,
                    const float* given_step, const RowTarget& to);
};

const IntegerImplementation& scalar_integer_implementation();
/// Null pointer when not built for this processor family.
const IntegerImplementation* avx2_integer_implementation();
const IntegerImplementation* avxvnni_integer_implementation();
const IntegerImplementation* avx512_integer_implementation();

}  // namespace autoglm::kernels
