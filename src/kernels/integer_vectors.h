// Panels of x in rows side by side, multiplied in vector registers: see
// integer_many.h.
#pragma once

#include "kernels/integer_many.h"

namespace autoglm::kernels {
namespace {

// Adds the products of a quad of all tiles, expanded, with `Tokens` rows of x.
template <class Isa, bool Wide, int Tokens>
[[gnu::always_inline]] inline void add_quad(const std::uint8_t* codes,
                                            const std::int8_t* a,
                                            typename Isa::Ints* sum) {
  constexpr int kTiles = Isa::kTiles;
  typename Isa::Bytes code[kTiles];
#pragma GCC unroll 2
  for (int t = 0; t < kTiles; ++t)
    code[t] = Isa::load(codes + t * Chunk<Isa>::kTileCodes);
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
  const std::uint8_t* codes = chunk.codes;
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

template <class Isa>
struct VectorPanels {
  template <bool Wide>
  static void multiply(const Chunk<Isa>& chunk, const RowsView& x,
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
};

}  // namespace
}  // namespace autoglm::kernels
