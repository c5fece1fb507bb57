// Text of a hostile file in a message: short, and no control characters that
// would move the cursor of a terminal.
#pragma once

#include <string>
#include <string_view>

namespace autoglm {

inline std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 100;
  std::string out(text.substr(0, kLongest));
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  return text.size() > kLongest ? out + "..." : out;
}

}  // namespace autoglm
