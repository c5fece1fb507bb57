// SHA-256 (FIPS 180-4), for fixtures that name the hash of their tensors.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "autoglm/core/text.h"

namespace autoglm::test {

/// The first 32 bits of the fractional part of `root` (section 4.2.2).
inline std::uint32_t fraction(long double root) {
  return static_cast<std::uint32_t>((root - std::floor(root)) * 4294967296.0L);
}

inline std::string sha256(std::string_view data) {
  std::array<std::uint32_t, 8> hash = {};
  std::array<std::uint32_t, 64> constants = {};
  for (std::uint32_t prime = 2, found = 0; found < 64; ++prime) {
    bool divisible = false;
    for (std::uint32_t d = 2; d * d <= prime; ++d)
      divisible = divisible || prime % d == 0;
    if (divisible) continue;
    if (found < 8)
      hash[found] = fraction(std::sqrt(static_cast<long double>(prime)));
    constants[found++] = fraction(std::cbrt(static_cast<long double>(prime)));
  }
  std::string text(data);
  text += '\x80';
  while (text.size() % 64 != 56) text += '\0';
  for (int shift = 56; shift >= 0; shift -= 8)
    text += static_cast<char>((std::uint64_t{data.size()} * 8) >> shift);
  for (std::size_t block = 0; block < text.size(); block += 64) {
    std::array<std::uint32_t, 64> w = {};
    for (std::size_t i = 0; i < 64; ++i)
      w[i / 4 % 16] =
          w[i / 4 % 16] << 8 | static_cast<unsigned char>(text[block + i]);
    for (std::size_t i = 16; i < 64; ++i)
      w[i] =
          w[i - 16] + w[i - 7] +
          (std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^
           w[i - 15] >> 3) +
          (std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
    auto [a, b, c, d, e, f, g, h] = hash;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t t1 =
          h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
          ((e & f) ^ (~e & g)) + constants[i] + w[i];
      const std::uint32_t t2 =
          (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) +
          ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::uint32_t now[8] = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) hash[i] += now[i];
  }
  std::string out;
  for (const std::uint32_t word : hash) out += fmt::format("{:08x}", word);
  return out;
}

}  // namespace autoglm::test
