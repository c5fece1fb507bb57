// Many rows of x: codes are expanded to bytes, some at a time, and multiplied
// with all rows before the next are. How is up to `Panels`, which provides
//   multiply<Wide>(chunk, x, begin, end, sums): adds the chunk's products with
//     panels [begin, end) of x to `sums` [rows, kTiles * 16]; Wide: codes may
//     be above 127
// See integer_loops.h for the vector interface.
#pragma once

#include "kernels/integer_implementation.h"
#include "kernels/integer_units.h"

namespace autoglm::kernels {
namespace {

constexpr int kChunkSpans = kChunkQuads;  // a span has a quad at least
constexpr int kBehind = 15 * kVectorBytes;
// Elements of x in whole numbers that the caches of one core hold well.
constexpr std::int64_t kNearElements = 1 << 19;

// Consecutive spans of all rows, and what a set of tiles holds in them.
template <class Isa>
struct Chunk {
  std::int64_t first_span = 0, first_quad = 0;
  int spans = 0, all_quads = 0;
  int quads[kChunkSpans];
  std::int64_t groups[kChunkSpans];

  // Behind the last tile lies what Panels may read and not use.
  static constexpr int kTileCodes = kChunkQuads * kVectorBytes;
  alignas(64) std::uint8_t codes[Isa::kTiles * kTileCodes + kBehind];
  alignas(64) float scales[kChunkSpans][Isa::kTiles][kTileRows];
  alignas(64) std::int32_t zeros[kChunkSpans][Isa::kTiles][kTileRows];

  void advance() {
    first_span += spans;
    first_quad += all_quads;
    spans = all_quads = 0;
  }
};

// A tile on its way through its spans.
struct TileWalk {
  std::int64_t index;
  const std::uint8_t* codes;  // of the next span
};

// Expands the chunk's spans of a set of tiles.
template <class Isa, int Bits>
void expand_chunk(const InterleavedMatrix& w, std::int64_t ahead,
                  TileWalk* tiles, Chunk<Isa>& chunk) {
  const std::int64_t groups = w.groups();
  for (int t = 0; t < Isa::kTiles; ++t) {
    std::uint8_t* to = chunk.codes + t * chunk.kTileCodes;
    for (int s = 0; s < chunk.spans; ++s) {
      tiles[t].codes =
          expand_span<Isa, Bits>(tiles[t].codes, chunk.quads[s], to);
      to += chunk.quads[s] * kVectorBytes;
      const std::int64_t at =
          (tiles[t].index * groups + chunk.groups[s]) * kTileRows;
      prefetch_scales<Isa>(w, at + ahead * groups * kTileRows);
      Isa::store_floats(chunk.scales[s][t],
                        Isa::load_scales(w.scales, w.scale_type, at));
      Isa::store_ints(chunk.zeros[s][t], zeros_at<Isa>(w, at));
    }
  }
}

// Panels [begin, end) of x times `sets` sets of tiles from `tile` on. A chunk
// of x is multiplied with all sets before the next is read.
template <class Isa, class Panels, int Bits>
void linear_block(const InterleavedMatrix& w, const RowsView& x,
                  std::int64_t begin, std::int64_t end, std::int64_t tile,
                  std::int64_t tile_end, int sets, float* sums) {
  constexpr int kTiles = Isa::kTiles;
  const std::int64_t bytes = tile_bytes(w.in, w.group_size, Bits);
  const std::int64_t set_sums =
      (end - begin) * x.panel_rows * kTiles * kTileRows;
  TileWalk walks[kBlockTiles];
  for (int t = 0; t < sets * kTiles; ++t) {
    // Behind the last tile comes that one again.
    walks[t].index = tile + t < tile_end ? tile + t : tile_end - 1;
    walks[t].codes = w.codes + walks[t].index * bytes;
  }
  for (std::int64_t i = 0; i < sets * set_sums; ++i) sums[i] = 0;
  Chunk<Isa> chunk;
  const auto flush = [&] {
    for (int set = 0; set < sets; ++set) {
      expand_chunk<Isa, Bits>(w, sets * kTiles, walks + set * kTiles, chunk);
      Panels::template multiply<Bits == 8>(chunk, x, begin, end,
                                           sums + set * set_sums);
    }
    chunk.advance();
  };
  for_each_span(w.in, w.group_size,
                [&](std::int64_t, std::int64_t group, int quads) {
                  if (chunk.all_quads + quads > kChunkQuads) flush();
                  chunk.groups[chunk.spans] = group;
                  chunk.quads[chunk.spans++] = quads;
                  chunk.all_quads += quads;
                });
  flush();
}

// Many rows of x: spans of a few tiles are expanded to bytes, multiplied with
// up to kStripRows rows, and so on.
template <class Isa, class Panels, int Bits>
void linear_many(const InterleavedMatrix& w, const RowsView& x, float* y,
                 std::int64_t tile_begin, std::int64_t tile_end,
                 float* scratch) {
  constexpr int kTiles = Isa::kTiles, kRow = kTiles * kTileRows;
  const std::int64_t panels = (x.rows + x.panel_rows - 1) / x.panel_rows;
  const std::int64_t most = kStripRows / x.panel_rows;
  const std::int64_t strips = (panels + most - 1) / most;
  const std::int64_t strip = (panels + strips - 1) / strips;
  // Several sets share a reading of x where it does not fit near caches.
  const int sets = x.rows * w.in > kNearElements ? kBlockTiles / kTiles : 1;
  for (std::int64_t begin = 0; begin < panels; begin += strip) {
    const std::int64_t end = begin + strip < panels ? begin + strip : panels;
    const std::int64_t first_row = begin * x.panel_rows;
    const std::int64_t last_row =
        end * x.panel_rows < x.rows ? end * x.panel_rows : x.rows;
    const std::int64_t set_sums = (end - begin) * x.panel_rows * kRow;
    for (std::int64_t tile = tile_begin; tile < tile_end;
         tile += sets * kTiles) {
      linear_block<Isa, Panels, Bits>(w, x, begin, end, tile, tile_end, sets,
                                      scratch);
      for (int t = 0; t < sets * kTiles && tile + t < tile_end; ++t) {
        const float* sums =
            scratch + t / kTiles * set_sums + t % kTiles * kTileRows;
        for (std::int64_t m = first_row; m < last_row; ++m)
          store_rows(w, tile + t, sums + (m - first_row) * kRow, y + m * w.out);
      }
    }
  }
}

}  // namespace
}  // namespace autoglm::kernels
