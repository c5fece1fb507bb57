#include "text/bpe.h"

#include <limits>
#include <queue>

namespace autoglm {
namespace {

// Up to here scanning all pairs per merge beats a queue.
constexpr std::size_t kShortPiece = 48;
// Bounds of the cache: long pieces hardly repeat, and memory stays small.
constexpr std::size_t kCachedPiece = 64;
constexpr std::size_t kCachedCount = 1 << 18;

void merge_short(const BpeModel& model, TokenId* ids, std::size_t& count) {
  while (count > 1) {
    std::size_t best = count;
    BpeModel::Merge best_merge = {std::numeric_limits<std::int32_t>::max(), 0};
    for (std::size_t i = 0; i + 1 < count; ++i) {
      const BpeModel::Merge* merge = model.find_merge(ids[i], ids[i + 1]);
      if (merge != nullptr && merge->rank < best_merge.rank) {
        best = i;
        best_merge = *merge;
      }
    }
    if (best == count) return;
    ids[best] = best_merge.id;
    for (std::size_t i = best + 1; i + 1 < count; ++i) ids[i] = ids[i + 1];
    --count;
  }
}

struct Candidate {
  std::int32_t rank;
  std::int64_t at;
  TokenId left, right;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

// A linked list of symbols and a queue of candidate pairs; a candidate whose
// symbols have changed since is skipped.
void merge_long(const BpeModel& model, std::vector<TokenId>& ids) {
  const auto size = static_cast<std::int64_t>(ids.size());
  std::vector<std::int64_t> previous(ids.size()), next(ids.size());
  for (std::int64_t i = 0; i < size; ++i) {
    previous[static_cast<std::size_t>(i)] = i - 1;
    next[static_cast<std::size_t>(i)] = i + 1 < size ? i + 1 : -1;
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::int64_t at) {
    if (at < 0) return;
    const std::int64_t after = next[static_cast<std::size_t>(at)];
    if (after < 0) return;
    const TokenId left = ids[static_cast<std::size_t>(at)];
    const TokenId right = ids[static_cast<std::size_t>(after)];
    if (const BpeModel::Merge* merge = model.find_merge(left, right))
      queue.push({merge->rank, at, left, right});
  };
  for (std::int64_t i = 0; i + 1 < size; ++i) consider(i);
  constexpr TokenId kGone = -1;
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const auto at = static_cast<std::size_t>(top.at);
    if (ids[at] != top.left || next[at] < 0) continue;
    const auto after = static_cast<std::size_t>(next[at]);
    if (ids[after] != top.right) continue;
    ids[at] = model.find_merge(top.left, top.right)->id;
    ids[after] = kGone;
    next[at] = next[after];
    if (next[at] >= 0) previous[static_cast<std::size_t>(next[at])] = top.at;
    consider(previous[at]);
    consider(top.at);
  }
  std::erase(ids, kGone);
}

}  // namespace

void BpeModel::encode(std::string_view piece, std::vector<TokenId>& out) const {
  if (ignore_merges) {
    if (const auto found = ids.find(std::string(piece)); found != ids.end()) {
      out.push_back(found->second);
      return;
    }
  }
  if (piece.size() <= kShortPiece) {
    TokenId symbols[kShortPiece];
    std::size_t count = 0;
    for (const char c : piece)
      if (const TokenId id = byte_ids[static_cast<unsigned char>(c)]; id >= 0)
        symbols[count++] = id;
    merge_short(*this, symbols, count);
    out.insert(out.end(), symbols, symbols + count);
    return;
  }
  std::vector<TokenId> symbols;
  symbols.reserve(piece.size());
  for (const char c : piece)
    if (const TokenId id = byte_ids[static_cast<unsigned char>(c)]; id >= 0)
      symbols.push_back(id);
  merge_long(*this, symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

void BpeCache::encode(std::string_view piece, std::vector<TokenId>& out) {
  if (piece.size() > kCachedPiece) return model_.encode(piece, out);
  if (const auto found = spans_.find(piece); found != spans_.end()) {
    const TokenId* begin = ids_.data() + found->second.begin;
    out.insert(out.end(), begin, begin + found->second.count);
    return;
  }
  const std::size_t before = out.size();
  model_.encode(piece, out);
  if (spans_.size() >= kCachedCount) return;
  spans_.emplace(std::string(piece),
                 Span{static_cast<std::uint32_t>(ids_.size()),
                      static_cast<std::uint32_t>(out.size() - before)});
  ids_.insert(ids_.end(), out.begin() + static_cast<std::ptrdiff_t>(before),
              out.end());
}

}  // namespace autoglm
