// Text for people: formatting, name suggestions, globs, units, tables.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

/// The candidate nearest to `word` by edit distance, if it is near enough to
/// be a likely typo (distance at most 1/3 of the longer word, at least 2).
std::optional<std::string> nearest_name(
    std::string_view word, const std::vector<std::string>& candidates);

/// " (did you mean 'x'?)" or "" when nothing is near.
std::string did_you_mean(std::string_view word,
                         const std::vector<std::string>& candidates);

/// Shell-style match of the whole name: `*` any run (dots included), `?` one
/// character, `[a-z]` a set. A backslash takes the next character literally.
bool matches_glob(std::string_view pattern, std::string_view name);

std::string format_bytes(std::uint64_t bytes);   // "16.8 MB" (10^6)
std::string format_count(std::uint64_t count);   // "8.4 M"
std::string format_duration(double seconds);     // "1 min 12 s"
std::string escape_html(std::string_view text);  // & < > " as entities

/// "6GB", "512 MiB", "1000": bytes. Throws kConfig on anything else.
std::uint64_t parse_bytes(std::string_view text);

/// True for well-formed UTF-8.
bool is_utf8(std::string_view text);

/// A table for the terminal: columns padded to their widest cell, numbers
/// right-aligned, two blanks between columns.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header);
  void add_row(std::vector<std::string> cells);
  std::string text() const;
  std::string markdown() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace autoglm
