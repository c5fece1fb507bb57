// Added tokens: texts that are found before anything else is looked at.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "autoglm/text/tokenizer.h"
#include "text/regex.h"

namespace autoglm {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // is looked for after the others
  bool special = false;      // may be left out when decoding
};

/// Part of a text: an added token, or (id -1) ordinary text.
struct TextPart {
  TokenId id;
  std::string_view text;
};

/// Finds the leftmost, among those the longest token at a place.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);
  /// Splits `text`; parts are in order and ordinary ones never empty.
  std::vector<TextPart> split(std::string_view text) const;
  bool empty() const { return tokens_.empty(); }

 private:
  const AddedToken* longest_at(std::string_view text, std::size_t at) const;

  std::vector<AddedToken> tokens_;
  // Tokens by their first byte, longest first.
  std::array<std::vector<std::size_t>, 256> by_byte_;
};

}  // namespace autoglm
