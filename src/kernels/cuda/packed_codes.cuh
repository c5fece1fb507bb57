// How rows of codes lie in memory, and how they become pairs of 16-bit numbers
// in registers.
//
// A row is cut into *pieces*: whole words that hold whole elements, one piece
// per lane and step. A piece is cut into *parts* of up to 32 elements, the
// shortest run that has a scale of its own. A part is decoded pair by pair, in
// an order that costs least; x is brought into the same order.
//
// A code becomes a number without a conversion: its bits are put into the
// mantissa of 2^7 (bf16) or 2^10 (fp16), where they count up from that power;
// an fma takes off the power and the zero code. Two codes of a word that are 16
// bits apart, or nearly so, go through this together.
#pragma once

#include <cstdint>

#include "kernels/cuda/numbers.cuh"

namespace autoglm::kernels::cuda {

/// Where the codes of a pair are: in the 32 bits from `bit` of the part on (it
/// may be -1), `low` bits above the bottom of the lower half and `high` bits
/// above that of the upper half.
struct PairPlace {
  int bit, low, high;
  bool split;  // 7 bits of mantissa are too few: lower and upper half come from
               // `bit` and from the code after it
};

/// Elements between the two of a pair, for widths where one look at 32 bits
/// finds both; 0: neighbours, found one by one.
AUTOGLM_HOST_DEVICE constexpr int pair_distance(int bits) {
  return bits == 2 || bits == 4 ? 16 / bits : bits == 3 ? 5 : bits == 5 ? 3 : 0;
}

/// Element, counted from the part's first, that is number `half` (0 or 1) of
/// pair i (0 .. 15). Pairs come in blocks of `distance`; what is left over at
/// the end are neighbours.
AUTOGLM_HOST_DEVICE constexpr int pair_element(int bits, int i, int half) {
  const int distance = pair_distance(bits);
  if (distance == 0 || i >= 16 / distance * distance) return 2 * i + half;
  return i / distance * (2 * distance) + i % distance + half * distance;
}

/// mantissa: bits of it in the type that the codes become.
AUTOGLM_HOST_DEVICE constexpr PairPlace pair_place(int bits, int i,
                                                   int mantissa) {
  const int first = pair_element(bits, i, 0);
  const int distance = pair_element(bits, i, 1) - first;
  if (bits == 2 || bits == 4) {
    // Several pairs fit into the mantissa side by side: one shift for them.
    const int fit = (mantissa - bits) / bits + 1;
    const int above = first % distance % fit * bits;
    return {first * bits - above, above, above, false};
  }
  if ((bits == 3 || bits == 5) && distance > 1) {
    // 15 bits apart. With 3 bits, two pairs fit side by side.
    const int above = bits == 3 && i % distance % 2 == 1 ? 3 : 0;
    return {first * bits - 1 - above, 1 + above, above, false};
  }
  return {first * bits, 0, 0, true};
}

/// 32 bits of a little-endian stream of `words` words from `bit` on, which may
/// be negative; zeros before the first word and after the last.
AUTOGLM_HOST_DEVICE std::uint32_t window(const std::uint32_t* stream, int words,
                                         int bit) {
  if (bit < 0) return stream[0] << -bit;
  const int word = bit / 32, shift = bit % 32;
  const std::uint32_t high = word + 1 < words ? stream[word + 1] : 0;
  return shift == 0          ? stream[word]
         : word + 1 == words ? stream[word] >> shift
                             : funnel(stream[word], high, shift);
}

/// A zero code, ready to be taken off.
template <int kBits, class Number>
struct CodeOffset {
  std::uint32_t pair;  // minus the zero code, twice
  float value;         // 2^23 plus the zero code
  AUTOGLM_HOST_DEVICE explicit CodeOffset(int zero)
      : pair(0), value(as_float(0x4b000000u | static_cast<unsigned>(zero))) {
    // 2^m - (2^m + zero), each exact.
    if constexpr (kBits <= Number::kMantissa)
      pair = Number::fma(
          static_cast<std::uint32_t>(zero) * 0x00010001u | Number::kOffsetPair,
          power_of_two<Number>(0) * 0x00010001u | 0x80008000u,
          Number::kOffsetPair);
  }
};

/// code - zero of pair i of a part of kWords words, exact: with up to 8 bits it
/// is a whole number of less than 257.
template <int kBits, int kWords, class Number>
AUTOGLM_HOST_DEVICE std::uint32_t decode_codes(
    const std::uint32_t* part, int i, const CodeOffset<kBits, Number>& offset) {
  if constexpr (kBits > Number::kMantissa) {
    // 8 bits and bf16: by way of floats. Or-ed with 0x4b000000, a code is 2^23
    // plus itself.
    const std::uint32_t word = part[i / 2];
    const std::uint32_t first = i % 2 == 0 ? 0x7540 : 0x7542;
    return Number::pair(
        as_float(choose_bytes(word, 0x4b000000u, first)) - offset.value,
        as_float(choose_bytes(word, 0x4b000000u, first + 1)) - offset.value);
  } else {
    const PairPlace place = pair_place(kBits, i, Number::kMantissa);
    std::uint32_t codes = 0;
    if (kBits == 8)
      codes = choose_bytes(part[i / 2], 0, i % 2 == 0 ? 0x4140 : 0x4342);
    else if (place.split)
      codes =
          choose_bytes(window(part, kWords, place.bit),
                       window(part, kWords, place.bit + kBits - 16), 0x7610);
    else
      codes = window(part, kWords, place.bit);
    constexpr std::uint32_t kMask = (1u << kBits) - 1;
    const std::uint32_t powers =
        mask_or(codes, kMask << place.low | kMask << (16 + place.high),
                Number::kOffsetPair);
    // 2^m + code * 2^low -> code - zero, and the same for the upper half.
    const std::uint32_t factor = power_of_two<Number>(-place.low) |
                                 power_of_two<Number>(-place.high) << 16;
    constexpr std::uint32_t kSign = 0x80008000u;
    const std::uint32_t offsets =
        (power_of_two<Number>(Number::kMantissa - place.low) |
         power_of_two<Number>(Number::kMantissa - place.high) << 16) |
        kSign;
    constexpr std::uint32_t kOnes = power_of_two<Number>(0) * 0x00010001u;
    return Number::fma(powers, factor,
                       Number::fma(offset.pair, kOnes, offsets));
  }
}

constexpr int odd_factor(int n) { return n % 2 == 0 ? odd_factor(n / 2) : n; }

/// kWide: pieces of whole 16-byte words, for rows that start at such; else of
/// 4-byte words.
template <int kBitsOfCode, bool kWideWords>
struct PackedFormat {
  static constexpr int kBits = kBitsOfCode;
  static constexpr bool kWide = kWideWords;
  static constexpr bool kHasZeros = true;
  static constexpr int kWords = kWide        ? 4 * odd_factor(kBits)
                                : kBits == 8 ? 4
                                             : kBits;
  static constexpr int kElements = kWords * 32 / kBits;  // of a piece
  static constexpr int kPartElements = kElements < 32 ? kElements : 32;
  static constexpr int kPartWords = kPartElements * kBits / 32;
  static constexpr int kParts = kElements / kPartElements;

  template <class Number>
  using Offset = CodeOffset<kBits, Number>;

  template <class Number>
  AUTOGLM_HOST_DEVICE static std::uint32_t decode(
      const std::uint32_t* part, int i, const Offset<Number>& offset) {
    return decode_codes<kBits, kPartWords, Number>(part, i, offset);
  }
};

/// e4m3 numbers, one per byte.
template <bool kWideWords>
struct Float8Format {
  static constexpr int kBits = 8;
  static constexpr bool kWide = kWideWords;
  static constexpr bool kHasZeros = false;
  static constexpr int kWords = 4;
  static constexpr int kElements = 16;
  static constexpr int kPartElements = 16;
  static constexpr int kPartWords = 4;
  static constexpr int kParts = 1;

  template <class Number>
  struct Offset {
    AUTOGLM_HOST_DEVICE explicit Offset(int) {}
  };

  /// Sign and the other seven bits move to where the 16-bit type has sign,
  /// exponent and mantissa; a factor makes up for the other exponent bias (7).
  /// Subnormal numbers come out right, NaN (0x7f, 0xff) as +-480.
  template <class Number>
  AUTOGLM_HOST_DEVICE static std::uint32_t decode(const std::uint32_t* part,
                                                  int i,
                                                  const Offset<Number>&) {
    const std::uint32_t upper =
        choose_bytes(part[i / 2], 0, i % 2 == 0 ? 0x1404 : 0x3424);
    constexpr int kShift = 11 - Number::kMantissa;
    constexpr std::uint32_t kFactor =
        power_of_two<Number>(Number::kExponentBias - 7);
    const std::uint32_t moved =
        mask_or(upper, 0x80008000u, (upper & 0x7f007f00u) >> kShift);
    return Number::fma(moved, kFactor | kFactor << 16, 0x80008000u);
  }
};

/// One code of a row that starts at a whole word; slow, for any layout.
AUTOGLM_HOST_DEVICE int code_at(const std::uint32_t* row, std::int64_t k,
                                int bits) {
  const std::int64_t bit = k * bits;
  const int shift = static_cast<int>(bit & 31);
  std::uint32_t value = row[bit >> 5] >> shift;
  if (shift + bits > 32) value |= row[(bit >> 5) + 1] << (32 - shift);
  return static_cast<int>(value & ((1u << bits) - 1));
}

/// The value of an e4m3 byte; NaN as +-480, like Float8Format.
AUTOGLM_HOST_DEVICE float float8_value(std::uint32_t byte) {
  return as_float((byte & 0x80) << 24 | (byte & 0x7f) << 20) * 0x1p120f;
}

/// n / parts by a multiplication, for group_factor(parts) and n below
/// 2^30 / parts. One group for all: factor 0.
AUTOGLM_HOST_DEVICE int group_of_part(int n, std::uint32_t factor) {
  return static_cast<int>(
      multiply_high(2 * static_cast<std::uint32_t>(n) + 1, factor));
}
/// 2^31 / parts, rounded up: (n + 1/2) times the error of that stays below
/// 1/2 of 1 / parts, so that the quotient is not rounded to a wrong number.
constexpr std::uint32_t group_factor(std::int64_t parts) {
  return static_cast<std::uint32_t>(((std::int64_t{1} << 31) + parts - 1) /
                                    parts);
}

}  // namespace autoglm::kernels::cuda
