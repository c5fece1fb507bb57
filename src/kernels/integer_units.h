// What an InterleavedMatrix holds - codes, one per byte, scales and zeros -
// over the vector interface that integer_loops.h describes.
#pragma once

#include "kernels/interleaved_layout.h"

namespace autoglm::kernels {
namespace {

// Quads of a tile that are expanded to bytes at once: with those of two tiles
// 20 KB, well inside a first-level cache.
constexpr int kChunkQuads = 160;

// By `Right` bits within 16-bit lanes; to the left where it is negative.
template <class Isa, int Right>
inline typename Isa::Bytes move(typename Isa::Bytes bytes) {
  if constexpr (Right > 0) return Isa::template right<Right>(bytes);
  if constexpr (Right < 0) return Isa::template left<-Right>(bytes);
  return bytes;
}

// Quad J of a full unit, one code per byte.
template <class Isa, int Bits, int J>
inline typename Isa::Bytes full_unit_quad(const std::uint8_t* unit) {
  using Bytes = typename Isa::Bytes;
  if constexpr (Bits == 8) {
    return Isa::load(unit + J * kVectorBytes);
  } else {
    Bytes code = {};
    if constexpr ((Bits & 4) != 0) {
      code = Isa::load(unit + J / 2 * kVectorBytes);
      if constexpr (J % 2 == 1) code = Isa::template right<4>(code);
      code = Isa::keep(code, 0x0f);
      unit += 4 * kVectorBytes;
    }
    if constexpr ((Bits & 2) != 0) {
      constexpr int kBelow = Bits & 4, kFrom = J % 4 * 2;
      const Bytes plane =
          move<Isa, kFrom - kBelow>(Isa::load(unit + J / 4 * kVectorBytes));
      code = kBelow == 0 ? Isa::keep(plane, 3)
                         : Isa::merge(code, plane, 3 << kBelow);
      unit += 2 * kVectorBytes;
    }
    if constexpr ((Bits & 1) != 0) {
      constexpr int kBelow = Bits & 6;
      code =
          Isa::merge(code, move<Isa, J - kBelow>(Isa::load(unit)), 1 << kBelow);
    }
    return code;
  }
}

// Quad j of a unit that has `quads` of them.
template <class Isa, int Bits>
inline typename Isa::Bytes unit_quad(const std::uint8_t* unit, int quads,
                                     int j) {
  using Bytes = typename Isa::Bytes;
  if constexpr (Bits == 8) {
    return Isa::load(unit + j * kVectorBytes);
  } else {
    Bytes code = {};
    if constexpr ((Bits & 4) != 0) {
      code = Isa::keep(
          Isa::right_by(Isa::load(unit + j / 2 * kVectorBytes), j % 2 * 4),
          0x0f);
      unit += (quads + 1) / 2 * kVectorBytes;
    }
    if constexpr ((Bits & 2) != 0) {
      constexpr int kBelow = Bits & 4;
      const Bytes plane = Isa::keep(
          Isa::right_by(Isa::load(unit + j / 4 * kVectorBytes), j % 4 * 2), 3);
      code = Isa::merge(code, move<Isa, -kBelow>(plane), 3 << kBelow);
      unit += (quads + 3) / 4 * kVectorBytes;
    }
    if constexpr ((Bits & 1) != 0) {
      constexpr int kBelow = Bits & 6;
      const Bytes plane = Isa::keep(Isa::right_by(Isa::load(unit), j), 1);
      code = Isa::merge(code, move<Isa, -kBelow>(plane), 1 << kBelow);
    }
    return code;
  }
}

template <class Isa, int Bits>
inline void expand_full_unit(const std::uint8_t* unit, std::uint8_t* out) {
  Isa::store(out, full_unit_quad<Isa, Bits, 0>(unit));
  Isa::store(out + 64, full_unit_quad<Isa, Bits, 1>(unit));
  Isa::store(out + 128, full_unit_quad<Isa, Bits, 2>(unit));
  Isa::store(out + 192, full_unit_quad<Isa, Bits, 3>(unit));
  Isa::store(out + 256, full_unit_quad<Isa, Bits, 4>(unit));
  Isa::store(out + 320, full_unit_quad<Isa, Bits, 5>(unit));
  Isa::store(out + 384, full_unit_quad<Isa, Bits, 6>(unit));
  Isa::store(out + 448, full_unit_quad<Isa, Bits, 7>(unit));
}

// The codes of a span, 64 bytes per quad. Returns what follows the span.
template <class Isa, int Bits>
inline const std::uint8_t* expand_span(const std::uint8_t* codes, int quads,
                                       std::uint8_t* out) {
  int q = 0;
  for (; q + kUnitQuads <= quads; q += kUnitQuads) {
    for (int line = 0; line < Bits; ++line)
      Isa::prefetch(codes + kChunkQuads * 8 * Bits + line * kVectorBytes);
    expand_full_unit<Isa, Bits>(codes, out + q * kVectorBytes);
    codes += Bits * kVectorBytes;
  }
  const int rest = quads - q;
  for (int j = 0; j < rest; ++j)
    Isa::store(out + (q + j) * kVectorBytes,
               unit_quad<Isa, Bits>(codes, rest, j));
  return rest > 0 ? codes + unit_bytes(rest, Bits) : codes;
}

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

// Calls run<bits>().
template <class Run>
inline void with_bits(int bits, Run&& run) {
  switch (bits) {
    case 2:
      return run.template operator()<2>();
    case 3:
      return run.template operator()<3>();
    case 4:
      return run.template operator()<4>();
    case 5:
      return run.template operator()<5>();
    case 6:
      return run.template operator()<6>();
    case 7:
      return run.template operator()<7>();
    default:
      return run.template operator()<8>();
  }
}

}  // namespace
}  // namespace autoglm::kernels
