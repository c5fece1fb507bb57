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

/// Where a rounded row goes: quads every `stride` bytes, spans every
/// `span_stride` (0: each behind the one before), steps and sums every
/// `panel_rows` numbers.
struct RowTarget {
  std::int8_t* values;
  float* steps;
  std::int32_t* minus_sums;
  std::int64_t stride, span_stride, panel_rows;
};

/// Rows of x between two expansions of the same weights; a multiple of 12.
constexpr int kStripRows = 516;
/// Tiles that share a reading of x.
constexpr int kBlockTiles = 8;
/// Floats of scratch memory, aligned to 64 bytes, for more than 4 rows of x.
constexpr int kScratch = kStripRows * kBlockTiles * kTileRows;
/// What a matrix unit holds of x: rows of a span, each padded to 64 elements.
constexpr int kMatrixRows = 16;
constexpr int kMatrixBytes = kMatrixRows * 64;

struct IntegerImplementation {
  using Linear = void (*)(const InterleavedMatrix&, const RowsView&, float* y,
                          std::int64_t tile_begin, std::int64_t tile_end,
                          float* scratch);

  const char* name;
  /// Panels of any height [panels, quads, panel_rows, 4].
  Linear linear;
  /// x [in]; a null `given_step`: every span's own.
  void (*round_row)(const float* x, std::int64_t in, std::int64_t group_size,
                    const float* given_step, const RowTarget& to);
  /// Panels for a matrix unit [panels, spans, kMatrixRows, 64]; null pointer
  /// where there is none.
  Linear linear_tiles = nullptr;
};

const IntegerImplementation& scalar_integer_implementation();
/// Null pointer when not built for this processor family. These are called on
/// every processor, so they only return the address of a constant.
const IntegerImplementation* avx2_integer_implementation();
const IntegerImplementation* avxvnni_integer_implementation();
const IntegerImplementation* avx512_integer_implementation();
/// For a matrix unit; null pointer when not built for it.
IntegerImplementation::Linear amx_linear_tiles();

/// True where `one` gives the same bits as the plain loops in products of every
/// width, with few rows and many. What was never run on its own hardware is
/// asked before it is chosen.
bool agrees_with_scalar(const IntegerImplementation& one);

/// For tests: takes one of their own, until the next force.
void force_integer_implementation(const IntegerImplementation& one);

}  // namespace autoglm::kernels
