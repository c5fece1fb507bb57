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

#include "kernels/integer_few.h"
#include "kernels/integer_implementation.h"
#include "kernels/integer_rounding.h"
#include "kernels/integer_vectors.h"
#include "kernels/scale_at.h"

namespace autoglm::kernels {
namespace {

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
      return linear_many<Isa, VectorPanels<Isa>, Bits>(w, x, y, tile_begin,
                                                       tile_end, scratch);
  }
}

template <class Isa>
void integer_linear_any(const InterleavedMatrix& w, const RowsView& x, float* y,
                        std::int64_t begin, std::int64_t end, float* scratch) {
  with_bits(w.bits, [&]<int Bits>() {
    linear_of_width<Isa, Bits>(w, x, y, begin, end, scratch);
  });
}

}  // namespace
}  // namespace autoglm::kernels
