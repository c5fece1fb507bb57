#include "text/byte_alphabet.h"

#include <array>

namespace autoglm {
namespace {

struct Alphabet {
  std::array<unsigned, 256> code_point = {};
  std::array<int, 512> byte;
  Alphabet() {
    byte.fill(-1);
    unsigned next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable =
          (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      code_point[b] = printable ? b : next++;
      byte[code_point[b]] = static_cast<int>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet value;
  return value;
}

// Length of the well-formed character at the start of `bytes`; 0 if there is
// none, and then `bad` is how many bytes the malformed part has.
std::size_t character(std::string_view bytes, std::size_t& bad) {
  const auto at = [&](std::size_t i) {
    return static_cast<unsigned char>(bytes[i]);
  };
  bad = 1;
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  std::size_t more = 0;
  unsigned low = 0x80, high = 0xBF;  // of the second byte
  if (first >= 0xC2 && first <= 0xDF) {
    more = 1;
  } else if (first >= 0xE0 && first <= 0xEF) {
    more = 2;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    more = 3;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (std::size_t i = 1; i <= more; ++i) {
    if (i >= bytes.size() || at(i) < low || at(i) > high) {
      bad = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return more + 1;
}

}  // namespace

std::optional<std::string> alphabet_to_bytes(std::string_view token) {
  std::string out;
  for (std::size_t i = 0; i < token.size();) {
    const auto first = static_cast<unsigned char>(token[i]);
    unsigned code = first;
    std::size_t size = 1;
    if (first >= 0x80) {
      // The alphabet ends at U+0143: two bytes at most.
      if ((first & 0xE0) != 0xC0 || i + 1 >= token.size()) return std::nullopt;
      code = (first & 0x1Fu) << 6 |
             (static_cast<unsigned char>(token[i + 1]) & 0x3Fu);
      size = 2;
    }
    if (code >= alphabet().byte.size() || alphabet().byte[code] < 0)
      return std::nullopt;
    out += static_cast<char>(alphabet().byte[code]);
    i += size;
  }
  return out;
}

std::string byte_to_alphabet(unsigned char byte) {
  const unsigned code = alphabet().code_point[byte];
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6),
          static_cast<char>(0x80 | (code & 0x3F))};
}

std::string to_valid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    std::size_t bad = 0;
    const std::size_t good = character(bytes, bad);
    if (good > 0)
      out += bytes.substr(0, good);
    else
      out += "\uFFFD";
    bytes.remove_prefix(good > 0 ? good : bad);
  }
  return out;
}

}  // namespace autoglm
