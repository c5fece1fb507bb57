// Byte pair encoding of one piece of text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "autoglm/text/tokenizer.h"

namespace autoglm {

/// The vocabulary over bytes and the ranked merges (Sennrich et al. 2016).
struct BpeModel {
  std::unordered_map<std::string, TokenId> ids;  // bytes -> id
  TokenId byte_ids[256];                         // -1: that byte has no token
  struct Merge {
    std::int32_t rank;
    TokenId id;
  };
  std::unordered_map<std::uint64_t, Merge> merges;  // left << 32 | right
  bool ignore_merges = false;  // a piece that is a token is not taken apart

  /// Of two merges of the same pair the last counts.
  void add_merge(TokenId left, TokenId right, Merge merge) {
    merges[static_cast<std::uint64_t>(left) << 32 |
           static_cast<std::uint32_t>(right)] = merge;
  }

  const Merge* find_merge(TokenId left, TokenId right) const {
    const auto found = merges.find(static_cast<std::uint64_t>(left) << 32 |
                                   static_cast<std::uint32_t>(right));
    return found == merges.end() ? nullptr : &found->second;
  }

  /// Appends the ids of `piece`: always the lowest-ranked adjacent pair first,
  /// the leftmost of equals. n log n, whatever the piece.
  void encode(std::string_view piece, std::vector<TokenId>& out) const;
};

/// Remembers the ids of short pieces: natural text repeats its words.
class BpeCache {
 public:
  explicit BpeCache(const BpeModel& model) : model_(model) {}
  void encode(std::string_view piece, std::vector<TokenId>& out);

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  struct Span {
    std::uint32_t begin, count;
  };
  const BpeModel& model_;
  std::unordered_map<std::string, Span, Hash, std::equal_to<>> spans_;
  std::vector<TokenId> ids_;
};

}  // namespace autoglm
