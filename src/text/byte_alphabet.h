// The GPT-2 alphabet of byte-level BPE: every byte has a printable character.
// Bytes 33-126, 161-172 and 174-255 stand for themselves, the other 68 follow
// from U+0100 on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace autoglm {

/// The bytes that a token text stands for; no value if a character is not in
/// the alphabet.
std::optional<std::string> alphabet_to_bytes(std::string_view token);

/// The character of one byte, in UTF-8.
std::string byte_to_alphabet(unsigned char byte);

/// UTF-8 with every malformed part replaced by U+FFFD (maximal subparts, as
/// the Unicode standard recommends).
std::string to_valid_utf8(std::string_view bytes);

}  // namespace autoglm
