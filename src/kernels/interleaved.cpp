#include "autoglm/kernels/interleaved.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels/interleaved_layout.h"
#include "kernels/scale_at.h"

namespace autoglm::kernels {
namespace {

std::size_t scale_bytes(ScaleType type) {
  return type == ScaleType::kFloat32 ? 4 : 2;
}

// Calls body(std::integral_constant) with the bits, so that what depends on
// them is known to the compiler.
template <class Body>
void with_bits(int bits, Body&& body) {
  switch (bits) {
    case 2:
      return body(std::integral_constant<int, 2>());
    case 3:
      return body(std::integral_constant<int, 3>());
    case 4:
      return body(std::integral_constant<int, 4>());
    case 5:
      return body(std::integral_constant<int, 5>());
    case 6:
      return body(std::integral_constant<int, 6>());
    case 7:
      return body(std::integral_constant<int, 7>());
    default:
      return body(std::integral_constant<int, 8>());
  }
}

// Elements k..k+3 of a packed row, one per byte; those behind `in` are 0.
// 4 codes start at a half byte at least, so they lie within 5 bytes.
inline std::uint32_t packed_quad(const std::uint8_t* row,
                                 std::int64_t row_bytes, std::int64_t in,
                                 std::int64_t k, int bits) {
  const std::int64_t bit = k * bits, first = bit >> 3;
  std::uint64_t window = 0;
  if (first + 8 <= row_bytes)
    std::memcpy(&window, row + first, 8);
  else
    std::memcpy(&window, row + first,
                static_cast<std::size_t>(row_bytes - first));
  window >>= bit & 7;
  const std::uint64_t mask = (1u << bits) - 1;
  std::uint32_t quad = 0;
  for (int i = 0; i < 4; ++i)
    quad |= static_cast<std::uint32_t>(window >> (i * bits) & mask) << 8 * i;
  if (in - k < 4) quad &= (1u << 8 * (in - k)) - 1;  // what pads the row
  return quad;
}

// Adds row r's quad j to a unit that has `quads` of them and starts as zeros.
inline void put_quad(std::uint8_t* unit, int quads, int j, std::int64_t r,
                     int bits, std::uint32_t quad) {
  const auto add = [&](std::int64_t vector, std::uint32_t part) {
    std::uint8_t* at = unit + vector * kVectorBytes + 4 * r;
    std::uint32_t old;
    std::memcpy(&old, at, sizeof old);
    old |= part;
    std::memcpy(at, &old, sizeof old);
  };
  if (bits == 8) return add(j, quad);
  std::int64_t vector = 0;
  int below = 0;
  for (int plane = 4; plane >= 1; plane /= 2) {
    if ((bits & plane) == 0) continue;
    const int per_vector = 8 / plane;
    const std::uint32_t mask = 0x01010101u * ((1u << plane) - 1);
    add(vector + j / per_vector, (quad >> below & mask)
                                     << j % per_vector * plane);
    vector += (quads + per_vector - 1) / per_vector;
    below += plane;
  }
}

inline std::uint32_t get_quad(const std::uint8_t* unit, int quads, int j,
                              std::int64_t r, int bits) {
  const auto at = [&](std::int64_t vector) {
    std::uint32_t value;
    std::memcpy(&value, unit + vector * kVectorBytes + 4 * r, sizeof value);
    return value;
  };
  if (bits == 8) return at(j);
  std::int64_t vector = 0;
  int below = 0;
  std::uint32_t quad = 0;
  for (int plane = 4; plane >= 1; plane /= 2) {
    if ((bits & plane) == 0) continue;
    const int per_vector = 8 / plane;
    const std::uint32_t mask = 0x01010101u * ((1u << plane) - 1);
    quad |= (at(vector + j / per_vector) >> j % per_vector * plane & mask)
            << below;
    vector += (quads + per_vector - 1) / per_vector;
    below += plane;
  }
  return quad;
}

// Calls visit(k, unit, quads, j) for every quad of a tile's row, in order.
template <class Visit>
void for_each_quad(std::int64_t in, std::int64_t group_size, int bits,
                   std::uint8_t* tile, Visit&& visit) {
  std::int64_t k = 0;
  for_each_span(in, group_size, [&](std::int64_t, std::int64_t, int quads) {
    for (int first = 0; first < quads; first += kUnitQuads) {
      const int count = std::min(kUnitQuads, quads - first);
      for (int j = 0; j < count; ++j, k += 4) visit(k, tile, count, j);
      tile += unit_bytes(count, bits);
    }
  });
}

// Adds a packed row to a tile as its row r.
template <int Bits>
void interleave_row(const PackedMatrix& from, const std::uint8_t* row,
                    std::int64_t r, std::uint8_t* tile) {
  const std::int64_t row_bytes = from.words() * 4;
  for_each_quad(from.in, from.group_size, Bits, tile,
                [&](std::int64_t k, std::uint8_t* unit, int quads, int j) {
                  put_quad(unit, quads, j, r, Bits,
                           packed_quad(row, row_bytes, from.in, k, Bits));
                });
}

}  // namespace

bool can_interleave(std::int64_t in, std::int64_t group_size) {
  return in > 0 && (group_size % 4 == 0 || group_size >= in);
}

std::int64_t tile_bytes(std::int64_t in, std::int64_t group_size, int bits) {
  std::int64_t bytes = 0;
  for_each_span(in, group_size, [&](std::int64_t, std::int64_t, int quads) {
    bytes += span_bytes(quads, bits);
  });
  return bytes;
}

void interleave(const PackedMatrix& from, std::uint8_t* codes, void* scales,
                std::uint8_t* zeros, std::int64_t tile_begin,
                std::int64_t tile_end) {
  const std::int64_t bytes = tile_bytes(from.in, from.group_size, from.bits);
  const std::int64_t row_bytes = from.words() * 4, groups = from.groups();
  const auto* rows = reinterpret_cast<const std::uint8_t*>(from.codes);
  const std::size_t width = scale_bytes(from.scale_type);
  for (std::int64_t tile = tile_begin; tile < tile_end; ++tile) {
    std::uint8_t* target = codes + tile * bytes;
    std::memset(target, 0, static_cast<std::size_t>(bytes));
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const std::int64_t o = tile * kTileRows + r;
      const bool there = o < from.out;
      if (there)
        with_bits(from.bits, [&](auto bits) {
          interleave_row<bits>(from, rows + o * row_bytes, r, target);
        });
      for (std::int64_t g = 0; g < groups; ++g) {
        const auto at =
            static_cast<std::size_t>((tile * groups + g) * kTileRows + r);
        auto* scale = static_cast<std::uint8_t*>(scales) + at * width;
        const auto* given = static_cast<const std::uint8_t*>(from.scales) +
                            static_cast<std::size_t>(o * groups + g) * width;
        if (there)
          std::memcpy(scale, given, width);
        else
          std::memset(scale, 0, width);
        if (from.zeros != nullptr)
          zeros[at] = there ? from.zeros[o * groups + g] : std::uint8_t{0};
      }
    }
  }
}

void interleaved_codes(const InterleavedMatrix& w, std::int64_t row,
                       std::uint8_t* codes) {
  const std::int64_t bytes = tile_bytes(w.in, w.group_size, w.bits);
  // Only read below; the walk is shared with the writer.
  auto* tile = const_cast<std::uint8_t*>(w.codes) + row / kTileRows * bytes;
  with_bits(w.bits, [&](auto bits) {
    for_each_quad(w.in, w.group_size, bits, tile,
                  [&](std::int64_t k, std::uint8_t* unit, int quads, int j) {
                    const std::uint32_t quad =
                        get_quad(unit, quads, j, row % kTileRows, bits);
                    std::memcpy(codes + k, &quad,
                                static_cast<std::size_t>(
                                    std::min<std::int64_t>(4, w.in - k)));
                  });
  });
}

void interleaved_row(const InterleavedMatrix& w, std::int64_t row, float* out) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(w.in));
  interleaved_codes(w, row, codes.data());
  const std::int64_t groups = w.groups();
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t at =
        (row / kTileRows * groups + g) * kTileRows + row % kTileRows;
    const float scale = scale_at(w.scales, w.scale_type, at);
    const int zero = w.zeros != nullptr ? w.zeros[at] : 1 << (w.bits - 1);
    const std::int64_t end = std::min(w.in, (g + 1) * w.group_size);
    for (std::int64_t k = g * w.group_size; k < end; ++k)
      out[k] =
          scale * static_cast<float>(codes[static_cast<std::size_t>(k)] - zero);
  }
}

std::shared_ptr<std::uint8_t> streamed_memory(std::size_t bytes) {
  constexpr std::size_t kLargePage = std::size_t{2} << 20;
  const std::size_t alignment = bytes >= kLargePage ? kLargePage : 64;
  const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, std::max(size, alignment));
  if (memory == nullptr) return nullptr;
  // A wish; without large pages the memory is as good, only slower to walk.
  if (alignment == kLargePage) madvise(memory, size, MADV_HUGEPAGE);
  return {static_cast<std::uint8_t*>(memory),
          [](std::uint8_t* given) { std::free(given); }};
}

}  // namespace autoglm::kernels
