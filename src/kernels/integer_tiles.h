// Panels of x as tiles of a matrix unit (Intel AMX: Intel's Software
// Developer's Manual, volume 1, chapter 18), for integer_many.h: 16 rows of x
// times 16 rows of the weight and a span, up to 64 elements, per instruction.
// `Unit` provides
//   configure(), release(): eight tiles 0..7 of 16 rows of 64 bytes
//   load<T>(p): a tile from 1024 bytes; store<T>(p)
//   zero<T>()
//   dot<C, A, B>(): C[m][n] += sum over k, i of A[m][4k + i] * B[k][4n + i],
//     A of signed bytes, B of unsigned ones, C of 32-bit numbers
// Codes lie as B is read. What is read behind a span meets zeros in A.
#pragma once

#include "kernels/integer_many.h"

namespace autoglm::kernels {
namespace {

// Adds the products of a span, [rows of x][tile][rows of the weight], to
// `sums`, in the order of multiply_chunk.
template <class Isa>
inline void add_products(const std::int32_t* products, const Chunk<Isa>& chunk,
                         int span, const float* steps,
                         const std::int32_t* minus_sums, float* sums) {
  constexpr int kTiles = Isa::kTiles;
  for (int t = 0; t < kTiles; ++t) {
    const typename Isa::Floats scale = Isa::load_floats(chunk.scales[span][t]);
    const typename Isa::Ints zeros = Isa::load_ints(chunk.zeros[span][t]);
    for (int m = 0; m < kMatrixRows; ++m) {
      const typename Isa::Ints product =
          Isa::add(Isa::load_ints(products + (t * kMatrixRows + m) * kTileRows),
                   Isa::times(zeros, minus_sums[m]));
      float* to = sums + (m * kTiles + t) * kTileRows;
      Isa::store_floats(to, Isa::scale_add(Isa::to_floats(product), scale,
                                           steps[m], Isa::load_floats(to)));
    }
  }
}

// The chunk times one or two panels. Tiles 0..3 are sums, 4 and 5 hold x, 6 and
// 7 the weight.
template <class Isa, class Unit, int Panels>
void multiply_tiles(const Chunk<Isa>& chunk, const RowsView& x,
                    std::int64_t panel, float* sums) {
  constexpr int kTiles = Isa::kTiles;
  constexpr int kProducts = kTiles * kMatrixRows * kTileRows;
  const std::int64_t first = panel * x.spans + chunk.first_span;
  const std::int8_t* a = x.values + first * kMatrixBytes;
  const float* steps = x.steps + first * kMatrixRows;
  const std::int32_t* minus_sums = x.minus_sums + first * kMatrixRows;
  const std::uint8_t* codes = chunk.codes;
  const std::int64_t next = x.spans * kMatrixRows;  // the panel behind
  alignas(64) std::int32_t products[Panels * kProducts];
  for (int span = 0; span < chunk.spans; ++span) {
    Unit::template zero<0>();
    Unit::template load<4>(a);
    Unit::template load<6>(codes);
    Unit::template dot<0, 4, 6>();
    if constexpr (kTiles == 2) {
      Unit::template zero<1>();
      Unit::template load<7>(codes + chunk.kTileCodes);
      Unit::template dot<1, 4, 7>();
    }
    if constexpr (Panels == 2) {
      Unit::template zero<2>();
      Unit::template load<5>(a + x.spans * kMatrixBytes);
      Unit::template dot<2, 5, 6>();
      if constexpr (kTiles == 2) {
        Unit::template zero<3>();
        Unit::template dot<3, 5, 7>();
      }
    }
    Unit::template store<0>(products);
    if constexpr (kTiles == 2)
      Unit::template store<1>(products + kProducts / 2);
    add_products<Isa>(products, chunk, span, steps, minus_sums, sums);
    if constexpr (Panels == 2) {
      Unit::template store<2>(products + kProducts);
      if constexpr (kTiles == 2)
        Unit::template store<3>(products + kProducts + kProducts / 2);
      add_products<Isa>(products + kProducts, chunk, span, steps + next,
                        minus_sums + next, sums + kProducts);
    }
    a += kMatrixBytes;
    codes += chunk.quads[span] * kVectorBytes;
    steps += kMatrixRows;
    minus_sums += kMatrixRows;
  }
}

template <class Isa, class Unit>
struct TilePanels {
  static_assert(Isa::kTiles == 1 || Isa::kTiles == 2);

  template <bool Wide>
  static void multiply(const Chunk<Isa>& chunk, const RowsView& x,
                       std::int64_t begin, std::int64_t end, float* sums) {
    constexpr int kPanelSums = kMatrixRows * Isa::kTiles * kTileRows;
    std::int64_t panel = begin;
    for (; panel + 2 <= end; panel += 2, sums += 2 * kPanelSums)
      multiply_tiles<Isa, Unit, 2>(chunk, x, panel, sums);
    if (panel < end) multiply_tiles<Isa, Unit, 1>(chunk, x, panel, sums);
  }
};

template <class Isa, class Unit>
void linear_tiles_any(const InterleavedMatrix& w, const RowsView& x, float* y,
                      std::int64_t begin, std::int64_t end, float* scratch) {
  Unit::configure();
  with_bits(w.bits, [&]<int Bits>() {
    linear_many<Isa, TilePanels<Isa, Unit>, Bits>(w, x, y, begin, end, scratch);
  });
  Unit::release();
}

}  // namespace
}  // namespace autoglm::kernels
