#include "passes/sparsification/pattern.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

// Two whole numbers above 0 and what stands between them.
std::optional<std::pair<std::int64_t, std::int64_t>> two_numbers(
    std::string_view text, char between) {
  const auto number =
      [](std::string_view digits) -> std::optional<std::int64_t> {
    std::int64_t value = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value);
    if (error != std::errc() || stop != end || value < 1) return {};
    return value;
  };
  const std::size_t at = text.find(between);
  if (at == std::string_view::npos) return {};
  const auto first = number(text.substr(0, at));
  const auto second = number(text.substr(at + 1));
  if (!first || !second) return {};
  return std::pair(*first, *second);
}

std::int64_t removed(const SparsityPattern& pattern, std::int64_t count) {
  // What 0.7 * 10 lacks of 7 is rounding.
  return static_cast<std::int64_t>(
      std::floor(pattern.share * static_cast<double>(count) + 1e-6));
}

// The least `count` of every row of scores [g, n].
at::Tensor least(const at::Tensor& scores, std::int64_t count) {
  const at::Tensor none = at::zeros_like(scores, at::kBool);
  if (count == 0) return none;
  const at::Tensor chosen = std::get<1>(
      scores.topk(count, /*dim=*/-1, /*largest=*/false, /*sorted=*/false));
  return none.scatter(-1, chosen, true);
}

// Scores of tiles, [out / rows, in / columns].
at::Tensor tile_scores(const at::Tensor& scores,
                       const SparsityPattern& pattern) {
  return scores
      .reshape({scores.size(0) / pattern.rows, pattern.rows,
                scores.size(1) / pattern.columns, pattern.columns})
      .sum({1, 3});
}

at::Tensor tiles_to_weights(const at::Tensor& tiles,
                            const SparsityPattern& pattern) {
  return tiles.repeat_interleave(pattern.rows, 0)
      .repeat_interleave(pattern.columns, 1);
}

}  // namespace

std::string SparsityPattern::text() const {
  switch (kind) {
    case Kind::kUnstructured:
      return "unstructured";
    case Kind::kNOfM:
      return fmt::format("{}:{}", kept, columns);
    case Kind::kTiles:
      return fmt::format("block:{}x{}", rows, columns);
  }
  fail(ErrorKind::kInternal, "no such pattern");
}

SparsityPattern parse_pattern(const std::string& text, double sparsity) {
  SparsityPattern out;
  out.share = sparsity;
  if (text == "unstructured") return out;
  constexpr std::string_view kBlock = "block:";
  if (text.starts_with(kBlock)) {
    if (const auto tile = two_numbers(text.substr(kBlock.size()), 'x')) {
      out.kind = SparsityPattern::Kind::kTiles;
      out.rows = tile->first;
      out.columns = tile->second;
      return out;
    }
  } else if (const auto pair = two_numbers(text, ':');
             pair && pair->first < pair->second) {
    out.kind = SparsityPattern::Kind::kNOfM;
    out.kept = pair->first;
    out.columns = pair->second;
    out.share =
        1 - static_cast<double>(out.kept) / static_cast<double>(out.columns);
    return out;
  }
  fail(ErrorKind::kConfig,
       fmt::format("sparsification.pattern must be unstructured, n:m with n "
                   "below m (2:4) or block:RxC (block:16x16), but is '{}'",
                   text));
}

void check_pattern(const SparsityPattern& pattern, const std::string& name,
                   std::int64_t out, std::int64_t in) {
  const auto check = [&](const char* what, std::int64_t count,
                         std::int64_t unit) {
    if (count % unit != 0)
      fail(ErrorKind::kConfig,
           fmt::format("sparsification: the {} {} of {} do not divide into {}s "
                       "as {} asks; list it under ignore or take another "
                       "pattern",
                       count, what, name, unit, pattern.text()));
  };
  check("inputs", in, pattern.columns);
  check("outputs", out, pattern.rows);
}

at::Tensor removal_mask(const at::Tensor& scores,
                        const SparsityPattern& pattern, Among among) {
  if (pattern.kind == SparsityPattern::Kind::kNOfM)
    return least(scores.reshape({-1, pattern.columns}),
                 pattern.columns - pattern.kept)
        .view(scores.sizes());
  const bool tiles = pattern.kind == SparsityPattern::Kind::kTiles;
  const at::Tensor units = tiles ? tile_scores(scores, pattern) : scores;
  if (among == Among::kMatrix)
    return removal_mask(scores, pattern, removed(pattern, units.numel()));
  const at::Tensor mask = least(units, removed(pattern, units.size(1)));
  return tiles ? tiles_to_weights(mask, pattern) : mask;
}

at::Tensor removal_mask(const at::Tensor& scores,
                        const SparsityPattern& pattern, std::int64_t count) {
  const bool tiles = pattern.kind == SparsityPattern::Kind::kTiles;
  const at::Tensor units = tiles ? tile_scores(scores, pattern) : scores;
  const at::Tensor mask =
      least(units.reshape({1, -1}), count).view(units.sizes());
  return tiles ? tiles_to_weights(mask, pattern) : mask;
}

}  // namespace autoglm
