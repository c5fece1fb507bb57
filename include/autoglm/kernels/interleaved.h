// A packed weight laid out anew for products with whole numbers: 16 rows side
// by side, so that one vector of 64 bytes holds 4 consecutive elements of each
// and one multiply-add of bytes serves all 16. Made once, when a model is
// loaded; the codes are the same, so it takes the same memory up to the rows
// that fill the last tile. Plain pointers, no torch, no threads of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "autoglm/kernels/packed_linear.h"

namespace autoglm::kernels {

constexpr std::int64_t kTileRows = 16;
/// A piece of a row that shares one scale of the rounded activations is a span:
/// a group of the weight, or up to this many elements of a longer group.
constexpr std::int64_t kSpanElements = 64;

/// How the elements of a row fall into spans. Spans start at multiples of 4.
struct Spans {
  std::int64_t in;
  std::int64_t group_size;  // a multiple of 4, or at least `in`

  std::int64_t count() const {
    return in / group_size * pieces(group_size) + pieces(in % group_size);
  }
  /// Four consecutive elements, the last ones padded with zeros.
  std::int64_t quads() const { return (in + 3) / 4; }

  static std::int64_t pieces(std::int64_t size) {
    return (size + kSpanElements - 1) / kSpanElements;
  }
};

/// A weight [out, in], weight[o][k] = (c - zero) * scale as in PackedMatrix.
/// Per tile of 16 rows and span, codes lie in units of 8 quads (the last unit
/// of a span may have fewer). A unit is a sequence of vectors of 64 bytes; byte
/// 4 r + i of a vector belongs to row r and element i of a quad. The bits of a
/// code are split into planes of 4, 2 and 1 bits from the lowest (8 bits: one
/// plane): first all vectors of the plane of 4, two quads in each, the first
/// in the low bits; then those of 2, four quads in each; then of 1.
struct InterleavedMatrix {
  const std::uint8_t* codes;  // [tiles, tile_bytes], aligned to 64 bytes
  const void* scales;         // [tiles, groups, 16] of scale_type
  ScaleType scale_type;
  const std::uint8_t* zeros;  // [tiles, groups, 16], or null: 2^(bits-1)
  std::int64_t out;
  std::int64_t in;
  std::int64_t group_size;
  int bits;  // 2..8

  std::int64_t tiles() const { return (out + kTileRows - 1) / kTileRows; }
  std::int64_t groups() const { return (in + group_size - 1) / group_size; }
};

/// False where a group ends inside a quad; such a weight stays packed.
bool can_interleave(std::int64_t in, std::int64_t group_size);

/// Bytes of the codes of one tile.
std::int64_t tile_bytes(std::int64_t in, std::int64_t group_size, int bits);

/// Lays out tiles [tile_begin, tile_end) of `from`, for which can_interleave
/// holds. The targets are those of an InterleavedMatrix of its shape; `zeros`
/// is not touched where `from` is symmetric.
void interleave(const PackedMatrix& from, std::uint8_t* codes, void* scales,
                std::uint8_t* zeros, std::int64_t tile_begin,
                std::int64_t tile_end);

/// One unsigned code per byte of row `row`: [in].
void interleaved_codes(const InterleavedMatrix& weight, std::int64_t row,
                       std::uint8_t* codes);

/// Row `row` in fp32: [in].
void interleaved_row(const InterleavedMatrix& weight, std::int64_t row,
                     float* out);

/// Memory for weights that are streamed through: aligned to 64 bytes, in large
/// pages where the system has them and `bytes` fills some. Null on failure.
std::shared_ptr<std::uint8_t> streamed_memory(std::size_t bytes);

}  // namespace autoglm::kernels
