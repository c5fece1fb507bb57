#include "text/bpe.h"

#include "autoglm/core/rng.h"
#include "tests/support/catch.h"

using namespace autoglm;

namespace {

// Letters a..d as ids 0..3, then the merges in the order given.
BpeModel model_of(
    const std::vector<std::pair<std::string, std::string>>& merges) {
  BpeModel model;
  std::fill(std::begin(model.byte_ids), std::end(model.byte_ids), -1);
  TokenId next = 0;
  for (const char c : std::string("abcd")) {
    model.byte_ids[static_cast<unsigned char>(c)] = next;
    model.ids[std::string(1, c)] = next++;
  }
  std::int32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const std::string both = left + right;
    if (!model.ids.contains(both)) model.ids[both] = next++;
    model.merges[static_cast<std::uint64_t>(model.ids[left]) << 32 |
                 static_cast<std::uint32_t>(model.ids[right])] = {
        rank++, model.ids[both]};
  }
  return model;
}

std::vector<TokenId> encode(const BpeModel& model, const std::string& piece) {
  std::vector<TokenId> out;
  model.encode(piece, out);
  return out;
}

}  // namespace

TEST_CASE("bpe: the lowest rank goes first, the leftmost of equals") {
  const BpeModel model = model_of({{"b", "c"}, {"a", "b"}, {"a", "a"}});
  CHECK(encode(model, "abc") == std::vector<TokenId>{0, 4});
  CHECK(encode(model, "ab") == std::vector<TokenId>{5});
  CHECK(encode(model, "aaa") == std::vector<TokenId>{6, 0});
  CHECK(encode(model, "").empty());
}

TEST_CASE("bpe: the queue and the scan agree on random pieces") {
  const BpeModel model = model_of({{"a", "b"},
                                   {"ab", "ab"},
                                   {"c", "d"},
                                   {"d", "a"},
                                   {"abab", "cd"},
                                   {"b", "b"},
                                   {"a", "a"},
                                   {"aa", "aa"}});
  Rng rng(5);
  for (int round = 0; round < 300; ++round) {
    // The same text, once as a short piece, once inside a long one whose rest
    // (bytes without a token) vanishes.
    std::string piece;
    for (int i = 0; i < 40; ++i) piece += static_cast<char>('a' + rng.below(4));
    CHECK(encode(model, piece) == encode(model, piece + std::string(20, 'z')));
  }
}

TEST_CASE("bpe: with ignore_merges a whole token is not taken apart") {
  BpeModel model = model_of({{"b", "c"}, {"a", "b"}, {"ab", "c"}});
  CHECK(encode(model, "abc") == std::vector<TokenId>{0, 4});
  model.ignore_merges = true;
  CHECK(encode(model, "abc") == std::vector<TokenId>{6});
}

TEST_CASE("bpe: the cache gives the same ids the second time") {
  const BpeModel model = model_of({{"a", "b"}});
  BpeCache cache(model);
  std::vector<TokenId> out;
  for (int i = 0; i < 3; ++i) cache.encode("abab", out);
  CHECK(out == std::vector<TokenId>{4, 4, 4, 4, 4, 4});
}
