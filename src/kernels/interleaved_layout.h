// Where things lie in an InterleavedMatrix; shared by the code that writes it
// and the kernels. Everything is in an unnamed namespace: files of different
// instruction sets include this (see packed_loops.h).
#pragma once

#include "autoglm/kernels/interleaved.h"

namespace autoglm::kernels {
namespace {

constexpr int kVectorBytes = 64;  // 16 rows x 4 elements
constexpr int kUnitQuads = 8;

// Bytes of a unit of 1..8 quads: per plane of p bits, 8 / p quads a vector.
inline std::int64_t unit_bytes(int quads, int bits) {
  if (bits == 8) return quads * kVectorBytes;
  std::int64_t vectors = 0;
  if ((bits & 4) != 0) vectors += (quads + 1) / 2;
  if ((bits & 2) != 0) vectors += (quads + 3) / 4;
  if ((bits & 1) != 0) vectors += 1;
  return vectors * kVectorBytes;
}

inline std::int64_t span_bytes(int quads, int bits) {
  const int rest = quads % kUnitQuads;
  return quads / kUnitQuads * unit_bytes(kUnitQuads, bits) +
         (rest > 0 ? unit_bytes(rest, bits) : 0);
}

// Calls visit(span, group, quads) in order.
template <class Visit>
inline void for_each_span(std::int64_t in, std::int64_t group_size,
                          Visit&& visit) {
  std::int64_t span = 0, group = 0;
  for (std::int64_t begin = 0; begin < in; begin += group_size, ++group) {
    const std::int64_t size = in - begin < group_size ? in - begin : group_size;
    for (std::int64_t k = 0; k < size; k += kSpanElements, ++span) {
      const std::int64_t count =
          size - k < kSpanElements ? size - k : kSpanElements;
      visit(span, group, static_cast<int>((count + 3) / 4));
    }
  }
}

}  // namespace
}  // namespace autoglm::kernels
