// Bits and numbers, as kernels on a GPU take them apart.
#include "kernels/cuda/packed_codes.cuh"

#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "tests/support/catch.h"

namespace autoglm::kernels::cuda {
namespace {

template <int kBits>
using Bits = std::integral_constant<int, kBits>;

template <class Body>
void for_all_bits(Body&& body) {
  body(Bits<2>());
  body(Bits<3>());
  body(Bits<4>());
  body(Bits<5>());
  body(Bits<6>());
  body(Bits<7>());
  body(Bits<8>());
}

std::vector<std::uint8_t> random_codes(int count, int bits,
                                       std::mt19937& random) {
  std::vector<std::uint8_t> codes;
  for (int i = 0; i < count; ++i)
    codes.push_back(static_cast<std::uint8_t>(random() & ((1u << bits) - 1)));
  return codes;
}

TEST_CASE("pair_element: the pairs of a part are a permutation of it") {
  for (int bits = 2; bits <= 8; ++bits) {
    std::vector<int> seen(32);
    for (int i = 0; i < 16; ++i)
      for (int half = 0; half < 2; ++half) ++seen[pair_element(bits, i, half)];
    INFO("bits " << bits);
    CHECK(seen == std::vector<int>(32, 1));
  }
  CHECK(pair_element(4, 0, 1) == 4);
  CHECK(pair_element(4, 5, 0) == 9);
  CHECK(pair_element(2, 9, 1) == 25);
  CHECK(pair_element(3, 6, 1) == 16);
  CHECK(pair_element(3, 15, 0) == 30);
  CHECK(pair_element(6, 9, 1) == 19);
}

TEST_CASE("pair_place: both codes lie where the mantissa takes them") {
  for (const int mantissa : {7, 10})
    for (int bits = 2; bits <= 7; ++bits)
      for (int i = 0; i < 16; ++i) {
        const PairPlace place = pair_place(bits, i, mantissa);
        INFO("bits " << bits << ", pair " << i << ", mantissa " << mantissa);
        CHECK(place.low + bits <= mantissa);
        CHECK(place.high + bits <= mantissa);
        CHECK(place.bit + place.low == pair_element(bits, i, 0) * bits);
        if (!place.split)
          CHECK(place.bit + 16 + place.high == pair_element(bits, i, 1) * bits);
      }
}

TEST_CASE("group_of_part: is the quotient as far as it is used") {
  for (const int parts : {1, 2, 3, 4, 7, 107, 856, 4096}) {
    const std::uint32_t factor = group_factor(parts);
    const std::int64_t most = (std::int64_t{1} << 30) / parts - 1;
    for (std::int64_t n = 0; n <= most; n += n < 10000 ? 1 : most / 997 + 1)
      if (group_of_part(static_cast<int>(n), factor) != n / parts)
        FAIL(n << " / " << parts);
    // Borders of groups near the end.
    for (std::int64_t n = most / parts * parts - 1; n <= most; ++n)
      if (group_of_part(static_cast<int>(n), factor) != n / parts)
        FAIL(n << " / " << parts);
  }
  CHECK(group_of_part(123456, 0) == 0);
}

TEST_CASE("window: takes 32 bits from anywhere, zeros from outside") {
  const std::uint32_t stream[] = {0x89abcdef, 0x01234567};
  CHECK(window(stream, 2, 0) == 0x89abcdef);
  CHECK(window(stream, 2, 4) == 0x789abcde);
  CHECK(window(stream, 2, 32) == 0x01234567);
  CHECK(window(stream, 2, 36) == 0x00123456);
  CHECK(window(stream, 2, -8) == 0xabcdef00);
  CHECK(window(stream, 1, 8) == 0x0089abcd);
}

TEST_CASE("choose_bytes: names the eight bytes of two words") {
  CHECK(choose_bytes(0x33221100, 0x77665544, 0x7654) == 0x77665544);
  CHECK(choose_bytes(0x33221100, 0x77665544, 0x0426) == 0x00442266);
}

TEST_CASE("code_at: agrees with unpack_codes up to the last element") {
  std::mt19937 random(2);
  for (int bits = 2; bits <= 8; ++bits)
    for (const int in : {1, 5, 31, 32, 33, 100}) {
      const auto codes = random_codes(in, bits, random);
      std::vector<std::uint32_t> words((in * bits + 31) / 32);
      pack_rows(codes.data(), 1, in, bits, words.data());
      for (int k = 0; k < in; ++k)
        if (code_at(words.data(), k, bits) != codes[k])
          FAIL("bits " << bits << ", element " << k << " of " << in);
    }
  SUCCEED();
}

// Every code with every zero code, through every layout of pieces.
template <int kBits, class Number, bool kWide>
int wrong_differences() {
  using Format = PackedFormat<kBits, kWide>;
  using Offset = typename Format::template Offset<Number>;
  int wrong = 0;
  for (int zero = 0; zero < 1 << kBits; ++zero)
    for (int first = 0; first < 1 << kBits; first += Format::kPartElements) {
      std::vector<std::uint8_t> codes(Format::kPartElements);
      for (int k = 0; k < Format::kPartElements; ++k)
        codes[k] = static_cast<std::uint8_t>((first + k) & ((1 << kBits) - 1));
      std::vector<std::uint32_t> words(Format::kPartWords);
      pack_rows(codes.data(), 1, Format::kPartElements, kBits, words.data());
      for (int i = 0; i < Format::kPartElements / 2; ++i) {
        const std::uint32_t pair =
            Format::template decode<Number>(words.data(), i, Offset(zero));
        for (int half = 0; half < 2; ++half) {
          const int want = codes[pair_element(kBits, i, half)] - zero;
          const float got =
              Number::widen(half == 0 ? low_half(pair) : high_half(pair));
          if (got != static_cast<float>(want)) ++wrong;
        }
      }
    }
  return wrong;
}

TEST_CASE("PackedFormat: code minus zero is exact in bf16 and fp16") {
  for_all_bits([](auto width) {
    constexpr int kBits = decltype(width)::value;
    INFO("bits " << kBits);
    CHECK(wrong_differences<kBits, BFloat16, true>() == 0);
    CHECK(wrong_differences<kBits, BFloat16, false>() == 0);
    CHECK(wrong_differences<kBits, Float16, true>() == 0);
    CHECK(wrong_differences<kBits, Float16, false>() == 0);
  });
}

TEST_CASE("PackedFormat: pieces hold whole words, parts and elements") {
  for_all_bits([](auto width) {
    constexpr int kBits = decltype(width)::value;
    const auto check = [](auto format) {
      using Format = decltype(format);
      STATIC_REQUIRE(Format::kElements * kBits == Format::kWords * 32);
      STATIC_REQUIRE(Format::kParts * Format::kPartElements ==
                     Format::kElements);
      STATIC_REQUIRE(Format::kParts * Format::kPartWords == Format::kWords);
      // Four pairs are read at once.
      STATIC_REQUIRE(Format::kPartElements % 8 == 0);
      STATIC_REQUIRE((!Format::kWide || Format::kWords % 4 == 0));
    };
    check(PackedFormat<kBits, true>());
    check(PackedFormat<kBits, false>());
  });
}

// The value of an e4m3 byte by its definition.
double defined_float8(int byte) {
  const int exponent = byte >> 3 & 15, mantissa = byte & 7;
  const double size = exponent == 0 ? std::ldexp(mantissa, -9)
                                    : std::ldexp(8 + mantissa, exponent - 10);
  return byte < 128 ? size : -size;
}

template <class Number>
int wrong_float8_values() {
  using Format = Float8Format<true>;
  int wrong = 0;
  for (int byte = 0; byte < 256; ++byte) {
    // Each byte in each of the four places of a word.
    const std::uint32_t word = static_cast<std::uint32_t>(byte) |
                               static_cast<std::uint32_t>(byte ^ 1) << 8 |
                               static_cast<std::uint32_t>(byte ^ 2) << 16 |
                               static_cast<std::uint32_t>(byte ^ 3) << 24;
    const std::uint32_t words[4] = {word, word, word, word};
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t pair = Format::template decode<Number>(
          words, i, typename Format::template Offset<Number>(0));
      for (int half = 0; half < 2; ++half) {
        const int at = pair_element(8, i, half) % 4;
        const float got =
            Number::widen(half == 0 ? low_half(pair) : high_half(pair));
        if (static_cast<double>(got) != defined_float8(byte ^ at)) ++wrong;
      }
    }
  }
  return wrong;
}

TEST_CASE("Float8Format: every e4m3 byte is exact in bf16, fp16 and fp32") {
  CHECK(wrong_float8_values<BFloat16>() == 0);
  CHECK(wrong_float8_values<Float16>() == 0);
  for (int byte = 0; byte < 256; ++byte)
    if (static_cast<double>(float8_value(static_cast<std::uint32_t>(byte))) !=
        defined_float8(byte))
      FAIL("byte " << byte);
}

TEST_CASE("from_fp16, to_fp16: every number comes back, NaN as NaN") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = from_fp16(half);
    const float want = static_cast<float>(__builtin_bit_cast(_Float16, half));
    if (std::isnan(want)) {
      if (!std::isnan(value) || !std::isnan(from_fp16(to_fp16(value)))) ++wrong;
    } else if (as_bits(value) != as_bits(want) || to_fp16(value) != half) {
      ++wrong;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("to_fp16: rounds like the compiler, from subnormal to infinite") {
  std::mt19937 random(3);
  for (int i = 0; i < 300000; ++i) {
    // Exponents from 2^-30 to 2^20, ties often.
    auto bits = static_cast<std::uint32_t>((97 + random() % 50) << 23 |
                                           random() % (1u << 23) |
                                           (random() & 1u) << 31);
    if (i % 2 == 0) bits &= 0xfffff000;
    const float value = as_float(bits);
    const auto want =
        __builtin_bit_cast(std::uint16_t, static_cast<_Float16>(value));
    if (to_fp16(value) != want) FAIL("value " << value);
  }
  CHECK(to_fp16(65519.996f) == 0x7bff);
  CHECK(to_fp16(65520.0f) == 0x7c00);
  CHECK(to_fp16(-INFINITY) == 0xfc00);
  CHECK(to_fp16(0x1p-25f) == 0);
  CHECK(to_fp16(0x1.8p-25f) == 1);
}

TEST_CASE("to_bf16: rounds to nearest, ties to even") {
  CHECK(to_bf16(1.0f) == 0x3f80);
  CHECK(to_bf16(as_float(0x3f808000)) == 0x3f80);
  CHECK(to_bf16(as_float(0x3f818000)) == 0x3f82);
  CHECK(to_bf16(as_float(0x3f808001)) == 0x3f81);
  CHECK(to_bf16(INFINITY) == 0x7f80);
  CHECK(to_bf16(as_float(0x7f7fffff)) == 0x7f80);
  CHECK(std::isnan(from_bf16(to_bf16(as_float(0x7f800001)))));
}

TEST_CASE("float_slice: three slices add up to the number") {
  std::mt19937 random(4);
  for (int i = 0; i < 100000; ++i) {
    const auto bits = static_cast<std::uint32_t>((30 + random() % 220) << 23 |
                                                 random() % (1u << 23) |
                                                 (random() & 1u) << 31);
    const float value = as_float(bits);
    double sum = 0;
    for (int slice = 0; slice < 3; ++slice)
      sum += from_bf16(float_slice(value, slice));
    if (sum != static_cast<double>(value)) FAIL("value " << value);
  }
  for (const float value : {0.0f, 0x1.fffffep127f, -0x1.fffffep127f}) {
    double sum = 0;
    for (int slice = 0; slice < 3; ++slice)
      sum += from_bf16(float_slice(value, slice));
    CHECK(sum == static_cast<double>(value));
  }
  CHECK(from_bf16(float_slice(INFINITY, 0)) == INFINITY);
  CHECK(float_slice(INFINITY, 1) == 0);
  CHECK(std::isnan(from_bf16(float_slice(NAN, 0))));
  CHECK(float_slice(NAN, 2) == 0);
}

}  // namespace
}  // namespace autoglm::kernels::cuda
