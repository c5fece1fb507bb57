// Few rows of x, over the vector interface that integer_loops.h describes.
#pragma once

#include "kernels/integer_implementation.h"
#include "kernels/integer_units.h"

namespace autoglm::kernels {
namespace {

// Far ahead: near the limit of what memory gives, answers take long.
constexpr int kPrefetchBytes = 8192;

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

}  // namespace
}  // namespace autoglm::kernels
