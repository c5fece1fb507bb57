// The integer product, written once over a small vector interface `Isa` and
// compiled per instruction set. Isa provides
//   Bytes: 64 of them; Ints, Floats: 16 of each
//   kTiles, kTokens: how many tiles and rows of x one pass keeps in registers
//   load(p), store(p, bytes), prefetch(p)
//   right<S>(bytes), left<S>(bytes): by S bits within 16-bit lanes
//   right_by(bytes, s), keep(bytes, mask), merge(bytes, more, mask)
//   broadcast(i), load_ints(p), store_ints(p, ints), widen_zeros(p),
//   add(a, b), times(ints, i)
//   dot<Wide>(ints, codes, p): adds codes[4r + i] * p[i], i = 0..3, to lane r;
//     codes are unsigned and p signed bytes; Wide: codes may be above 127
//   load_floats(p), store_floats(p, f), load_scales(p, type, index),
//   to_floats(ints)
//   scale_add(a, scale, f, sum): (a * scale) * f + sum, the last two with one
//     rounding
//   largest(p, n): the bits of the largest |p[i]|
//   round(p, step, out): 16 numbers p / step in whole ones, and their sum
// All do the same arithmetic in the same order, so that results agree to the
// bit. See packed_loops.h for what may be included here.
#pragma once

#include "kernels/integer_implementation.h"
#include "kernels/integer_rounding.h"
#include "kernels/integer_units.h"
#include "kernels/interleaved_layout.h"
#include "kernels/scale_at.h"

namespace autoglm::kernels {
namespace {

// Far ahead: near the limit of what memory gives, answers take long.
constexpr int kPrefetchBytes = 8192;
constexpr int kChunkSpans = kChunkQuads;  // a span has a quad at least
// Elements of x in whole numbers that the caches of one core hold well.
constexpr std::int64_t kNearElements = 1 << 19;

template <class Isa>
inline typename Isa::Ints zeros_at(const InterleavedMatrix& w,
                                   std::int64_t index) {
  return w.zeros != nullptr ? Isa::widen_zeros(w.zeros + index)
                            : Isa::broadcast(1 << (w.bits - 1));
}

// Scales and zeros are streams of their own, too thin for the processor to
// follow by itself: they are asked for some tiles ahead. Inlined always: as a
// function without results and effects GCC would drop the call.
template <class Isa>
[[gnu::always_inline]] inline void prefetch_scales(const InterleavedMatrix& w,
                                                   std::int64_t index) {
  const std::int64_t width = w.scale_type == ScaleType::kFloat32 ? 4 : 2;
  Isa::prefetch(static_cast<const std::uint8_t*>(w.scales) + index * width);
  if (w.zeros != nullptr) Isa::prefetch(w.zeros + index);
}

inline void store_rows(const InterleavedMatrix& w, std::int64_t tile,
                       const float* from, float* y) {
  const std::int64_t first = tile * kTileRows;
  const std::int64_t count =
      w.out - first < kTileRows ? w.out - first : kTileRows;
  for (std::int64_t r = 0; r < count; ++r) y[first + r] = from[r];
}

// Adds the products of a full unit with `Tokens` rows of x, whose quads lie
// next to each other, to `sums`; quads take turns in `Chains` sums per row, so
// that one product need not wait for the one before.
template <class Isa, int Bits, int Tokens, int Chains, int J = 0>
[[gnu::always_inline]] inline void add_unit(const std::uint8_t* unit,
                                            const std::int8_t* a,
                                            typename Isa::Ints* sums) {
  if constexpr (J < kUnitQuads) {
    const typename Isa::Bytes code = full_unit_quad<Isa, Bits, J>(unit);
#pragma GCC unroll 4
    for (int m = 0; m < Tokens; ++m) {
      typename Isa::Ints& sum = sums[m * Chains + J % Chains];
      sum = Isa::template dot<Bits == 8>(sum, code, a + (J * Tokens + m) * 4);
    }
    add_unit<Isa, Bits, Tokens, Chains, J + 1>(unit, a, sums);
  }
}

// Few rows of x: codes go from memory through registers into the product.
template <class Isa, int Bits, int Tokens>
void linear_few(const InterleavedMatrix& w, const RowsView& x, float* y,
                std::int64_t tile_begin, std::int64_t tile_end) {
  using Ints = typename Isa::Ints;
  using Floats = typename Isa::Floats;
  constexpr int kChains = Tokens == 1 ? 2 : 1, kSums = Tokens * kChains;
  const std::int64_t groups = w.groups();
  const std::uint8_t* codes =
      w.codes + tile_begin * tile_bytes(w.in, w.group_size, Bits);
  alignas(64) std::uint8_t tail[kUnitQuads * kVectorBytes];
  for (std::int64_t tile = tile_begin; tile < tile_end; ++tile) {
    Floats totals[Tokens] = {};
    const std::int8_t* a = x.values;
    for_each_span(
        w.in, w.group_size,
        [&](std::int64_t span, std::int64_t group, int quads) {
          const std::int64_t at = (tile * groups + group) * kTileRows;
          prefetch_scales<Isa>(w, at + groups * kTileRows);
          Ints sums[kSums] = {};
#pragma GCC unroll 4
          for (int m = 0; m < Tokens; ++m)
            sums[m * kChains] = Isa::times(zeros_at<Isa>(w, at),
                                           x.minus_sums[span * Tokens + m]);
          for (; quads >= kUnitQuads; quads -= kUnitQuads) {
#pragma GCC unroll 8
            for (int line = 0; line < Bits; ++line)
              Isa::prefetch(codes + kPrefetchBytes + line * kVectorBytes);
            add_unit<Isa, Bits, Tokens, kChains>(codes, a, sums);
            codes += Bits * kVectorBytes;
            a += kUnitQuads * Tokens * 4;
          }
          if (quads > 0) codes = expand_span<Isa, Bits>(codes, quads, tail);
          for (int j = 0; j < quads; ++j, a += Tokens * 4) {
            const typename Isa::Bytes code = Isa::load(tail + j * kVectorBytes);
#pragma GCC unroll 4
            for (int m = 0; m < Tokens; ++m)
              sums[m * kChains] = Isa::template dot<Bits == 8>(
                  sums[m * kChains], code, a + m * 4);
          }
          const Floats scales = Isa::load_scales(w.scales, w.scale_type, at);
#pragma GCC unroll 4
          for (int m = 0; m < Tokens; ++m) {
            Ints sum = sums[m * kChains];
            if constexpr (kChains == 2) sum = Isa::add(sum, sums[1]);
            totals[m] = Isa::scale_add(Isa::to_floats(sum), scales,
                                       x.steps[span * Tokens + m], totals[m]);
          }
        });
    for (int m = 0; m < Tokens; ++m) {
      alignas(64) float rows[kTileRows];
      Isa::store_floats(rows, totals[m]);
      store_rows(w, tile, rows, y + m * w.out);
    }
  }
}

// Consecutive spans of all rows, and what a set of tiles holds in them.
template <class Isa>
struct Chunk {
  std::int64_t first_span = 0, first_quad = 0;
  int spans = 0, all_quads = 0;
  int quads[kChunkSpans];
  std::int64_t groups[kChunkSpans];

  alignas(64) std::uint8_t codes[Isa::kTiles][kChunkQuads * kVectorBytes];
  alignas(64) float scales[kChunkSpans][Isa::kTiles][kTileRows];
  alignas(64) std::int32_t zeros[kChunkSpans][Isa::kTiles][kTileRows];

  void advance() {
    first_span += spans;
    first_quad += all_quads;
    spans = all_quads = 0;
  }
};

// Adds the products of a quad of all tiles, expanded, with `Tokens` rows of x.
template <class Isa, bool Wide, int Tokens>
[[gnu::always_inline]] inline void add_quad(const std::uint8_t* codes,
                                            const std::int8_t* a,
                                            typename Isa::Ints* sum) {
  constexpr int kTiles = Isa::kTiles;
  typename Isa::Bytes code[kTiles];
#pragma GCC unroll 2
  for (int t = 0; t < kTiles; ++t)
    code[t] = Isa::load(codes + t * kChunkQuads * kVectorBytes);
#pragma GCC unroll 24
  for (int i = 0; i < Tokens * kTiles; ++i)
    sum[i] =
        Isa::template dot<Wide>(sum[i], code[i % kTiles], a + i / kTiles * 4);
}

// Adds the chunk's products with rows [token, token + Tokens) of a panel to
// `sums` [.., kTiles * 16]. Loops over tokens and tiles are one loop, which the
// compiler unrolls early enough to keep the arrays in registers.
template <class Isa, bool Wide, int Tokens>
void multiply_chunk(const Chunk<Isa>& chunk, const RowsView& x,
                    std::int64_t panel, int token, float* sums) {
  using Ints = typename Isa::Ints;
  constexpr int kTiles = Isa::kTiles, kSums = Tokens * kTiles;
  const std::int64_t width = x.panel_rows;
  const std::int8_t* a =
      x.values + ((panel * x.quads + chunk.first_quad) * width + token) * 4;
  const std::int64_t first =
      (panel * x.spans + chunk.first_span) * width + token;
  const float* steps = x.steps + first;
  const std::int32_t* minus_sums = x.minus_sums + first;
  const std::uint8_t* codes = chunk.codes[0];
  for (int s = 0; s < chunk.spans; ++s) {
    Ints sum[kSums];
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i)
      sum[i] = Isa::times(Isa::load_ints(chunk.zeros[s][i % kTiles]),
                          minus_sums[i / kTiles]);
    int quads = chunk.quads[s];  // 1 at least
    do {
      add_quad<Isa, Wide, Tokens>(codes, a, sum);
      a += 4 * width;
      codes += kVectorBytes;
    } while (--quads > 0);
    typename Isa::Floats scale[kTiles];
#pragma GCC unroll 2
    for (int t = 0; t < kTiles; ++t)
      scale[t] = Isa::load_floats(chunk.scales[s][t]);
    float* to = sums;
    // Hides that these are the sums of the span before: there is no room in
    // registers for them, and the compiler would keep copies on the stack.
    asm("" : "+r"(to));
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i)
      Isa::store_floats(to + i * kTileRows,
                        Isa::scale_add(Isa::to_floats(sum[i]),
                                       scale[i % kTiles], steps[i / kTiles],
                                       Isa::load_floats(to + i * kTileRows)));
    steps += width;
    minus_sums += width;
  }
}

template <class Isa, bool Wide, int Tokens>
inline void multiply_some(int count, const Chunk<Isa>& chunk, const RowsView& x,
                          std::int64_t panel, int token, float* sums) {
  if constexpr (Tokens > 1)
    if (count < Tokens)
      return multiply_some<Isa, Wide, Tokens - 1>(count, chunk, x, panel, token,
                                                  sums);
  multiply_chunk<Isa, Wide, Tokens>(chunk, x, panel, token, sums);
}

// The chunk times panels [begin, end).
template <class Isa, bool Wide>
void multiply_panels(const Chunk<Isa>& chunk, const RowsView& x,
                     std::int64_t begin, std::int64_t end, float* sums) {
  const int width = static_cast<int>(x.panel_rows);
  for (std::int64_t panel = begin; panel < end; ++panel)
    for (int token = 0; token < width; token += Isa::kTokens) {
      const int count =
          width - token < Isa::kTokens ? width - token : Isa::kTokens;
      multiply_some<Isa, Wide, Isa::kTokens>(
          count, chunk, x, panel, token,
          sums + ((panel - begin) * width + token) * Isa::kTiles * kTileRows);
    }
}

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
    std::uint8_t* to = chunk.codes[t];
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
template <class Isa, int Bits>
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
      multiply_panels<Isa, Bits == 8>(chunk, x, begin, end,
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
template <class Isa, int Bits>
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
      linear_block<Isa, Bits>(w, x, begin, end, tile, tile_end, sets, scratch);
      for (int t = 0; t < sets * kTiles && tile + t < tile_end; ++t) {
        const float* sums =
            scratch + t / kTiles * set_sums + t % kTiles * kTileRows;
        for (std::int64_t m = first_row; m < last_row; ++m)
          store_rows(w, tile + t, sums + (m - first_row) * kRow, y + m * w.out);
      }
    }
  }
}

template <class Isa, int Bits>
void linear_of_width(const InterleavedMatrix& w, const RowsView& x, float* y,
                     std::int64_t tile_begin, std::int64_t tile_end,
                     float* scratch) {
  switch (x.rows) {
    case 1:
      return linear_few<Isa, Bits, 1>(w, x, y, tile_begin, tile_end);
    case 2:
      return linear_few<Isa, Bits, 2>(w, x, y, tile_begin, tile_end);
    case 3:
      return linear_few<Isa, Bits, 3>(w, x, y, tile_begin, tile_end);
    case 4:
      return linear_few<Isa, Bits, 4>(w, x, y, tile_begin, tile_end);
    default:
      return linear_many<Isa, Bits>(w, x, y, tile_begin, tile_end, scratch);
  }
}

template <class Isa>
void integer_linear_any(const InterleavedMatrix& w, const RowsView& x, float* y,
                        std::int64_t begin, std::int64_t end, float* scratch) {
  switch (w.bits) {
    case 2:
      return linear_of_width<Isa, 2>(w, x, y, begin, end, scratch);
    case 3:
      return linear_of_width<Isa, 3>(w, x, y, begin, end, scratch);
    case 4:
      return linear_of_width<Isa, 4>(w, x, y, begin, end, scratch);
    case 5:
      return linear_of_width<Isa, 5>(w, x, y, begin, end, scratch);
    case 6:
      return linear_of_width<Isa, 6>(w, x, y, begin, end, scratch);
    case 7:
      return linear_of_width<Isa, 7>(w, x, y, begin, end, scratch);
    default:
      return linear_of_width<Isa, 8>(w, x, y, begin, end, scratch);
  }
}

}  // namespace
}  // namespace autoglm::kernels
