#include "autoglm/core/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

// Edit distance with adjacent swaps counted as one (restricted Damerau).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(
      a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + cost});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

// Length of a set "[...]" at the start of `pattern`, 0 when it is not closed.
std::size_t set_length(std::string_view pattern) {
  const std::size_t close = pattern.find(']', 2);
  return close == std::string_view::npos ? 0 : close + 1;
}

bool set_contains(std::string_view set, char c) {
  const bool negated = set[1] == '!' || set[1] == '^';
  bool found = false;
  for (std::size_t i = negated ? 2 : 1; i + 1 < set.size(); ++i) {
    if (i + 3 < set.size() && set[i + 1] == '-') {
      found |= set[i] <= c && c <= set[i + 2];
      i += 2;
    } else {
      found |= set[i] == c;
    }
  }
  return found != negated;
}

// Length of the single-character element at the start of `pattern` if it
// matches `c`, else 0.
std::size_t match_one(std::string_view pattern, char c) {
  if (pattern.empty()) return 0;
  if (pattern[0] == '?') return 1;
  if (pattern[0] == '[') {
    if (const std::size_t n = set_length(pattern))
      return set_contains(pattern.substr(0, n), c) ? n : 0;
  }
  if (pattern[0] == '\\' && pattern.size() > 1) return pattern[1] == c ? 2 : 0;
  return pattern[0] == c ? 1 : 0;
}

// Columns a terminal uses for UTF-8 text, near enough: code points.
std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool looks_numeric(std::string_view cell) {
  return !cell.empty() &&
         cell.find_first_of("0123456789") != std::string_view::npos &&
         (cell[0] == '-' || cell[0] == '+' ||
          (cell[0] >= '0' && cell[0] <= '9'));
}

}  // namespace

std::optional<std::string> nearest_name(
    std::string_view word, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  std::size_t best_distance = std::numeric_limits<std::size_t>::max();
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    const std::size_t limit =
        std::max<std::size_t>(2, std::max(word.size(), candidate.size()) / 3);
    // A short word is not "near" to one that shares no letter with it.
    if (distance <= limit &&
        distance < std::max(word.size(), candidate.size()) &&
        distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word,
                         const std::vector<std::string>& candidates) {
  const auto near = nearest_name(word, candidates);
  return near ? fmt::format(" (did you mean '{}'?)", *near) : "";
}

bool matches_glob(std::string_view pattern, std::string_view name) {
  // Greedy with one remembered star: linear in practice, never exponential.
  std::size_t p = 0, n = 0;
  std::size_t star = std::string_view::npos, star_name = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_name = n;
    } else if (const std::size_t step = match_one(pattern.substr(p), name[n])) {
      p += step;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string format_bytes(std::uint64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "kB", "MB", "GB",
                                                        "TB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  return fmt::format("{:.{}f} {}", value, value < 99.95 ? 1 : 0, kUnits[unit]);
}

std::string format_count(std::uint64_t count) {
  const double value = static_cast<double>(count);
  if (count < 10'000) return fmt::format("{}", count);
  if (value < 999.5e3) return fmt::format("{:.1f} k", value / 1e3);
  if (value < 999.5e6) return fmt::format("{:.2f} M", value / 1e6);
  return fmt::format("{:.2f} B", value / 1e9);
}

std::string format_duration(double seconds) {
  if (seconds < 0.0995) return fmt::format("{:.1f} ms", seconds * 1000);
  if (seconds < 9.95) return fmt::format("{:.2f} s", seconds);
  if (seconds < 59.5) return fmt::format("{:.0f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::uint64_t parse_bytes(std::string_view text) {
  struct Unit {
    std::string_view name;
    double factor;
  };
  static constexpr std::array<Unit, 14> kUnits = {{{"", 1},
                                                   {"B", 1},
                                                   {"k", 1e3},
                                                   {"kB", 1e3},
                                                   {"KB", 1e3},
                                                   {"MB", 1e6},
                                                   {"GB", 1e9},
                                                   {"TB", 1e12},
                                                   {"KiB", 1024.0},
                                                   {"kiB", 1024.0},
                                                   {"MiB", 1048576.0},
                                                   {"GiB", 1073741824.0},
                                                   {"TiB", 1099511627776.0},
                                                   {"bytes", 1}}};
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view unit =
      text.substr(static_cast<std::size_t>(end - text.data()));
  while (!unit.empty() && unit[0] == ' ') unit.remove_prefix(1);
  for (const Unit& known : kUnits) {
    const double bytes = value * known.factor;
    if (error == std::errc() && unit == known.name && value >= 0 &&
        bytes < 1.8e19)
      return static_cast<std::uint64_t>(std::llround(bytes));
  }
  fail(ErrorKind::kConfig,
       fmt::format("'{}' is not a size; write for example 6GB, 512MiB or a "
                   "number of bytes",
                   text));
}

bool is_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  while (p < end) {
    if (*p < 0x80) {
      ++p;
      continue;
    }
    int more = 0;
    unsigned code = 0, least = 0;
    if ((*p & 0xE0) == 0xC0) {
      more = 1, code = *p & 0x1Fu, least = 0x80;
    } else if ((*p & 0xF0) == 0xE0) {
      more = 2, code = *p & 0x0Fu, least = 0x800;
    } else if ((*p & 0xF8) == 0xF0) {
      more = 3, code = *p & 0x07u, least = 0x10000;
    } else {
      return false;
    }
    if (end - p <= more) return false;
    for (int i = 1; i <= more; ++i) {
      if ((p[i] & 0xC0) != 0x80) return false;
      code = code << 6 | (p[i] & 0x3Fu);
    }
    if (code < least || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      return false;
    p += more + 1;
  }
  return true;
}

TextTable::TextTable(std::vector<std::string> header)
    : header_(std::move(header)) {}

void TextTable::add_row(std::vector<std::string> cells) {
  cells.resize(header_.size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::text() const {
  std::vector<std::size_t> width(header_.size());
  std::vector<bool> right(header_.size(), !rows_.empty());
  for (std::size_t c = 0; c < header_.size(); ++c) {
    width[c] = display_width(header_[c]);
    for (const auto& row : rows_) {
      width[c] = std::max(width[c], display_width(row[c]));
      if (!row[c].empty() && row[c] != "-" && !looks_numeric(row[c]))
        right[c] = false;
    }
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string blanks(width[c] - display_width(cells[c]), ' ');
      if (c > 0) text += "  ";
      text += right[c] ? blanks + cells[c] : cells[c] + blanks;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line(header_);
  for (const auto& row : rows_) line(row);
  return out;
}

std::string TextTable::markdown() const {
  std::string out = "|";
  for (const auto& cell : header_) out += " " + cell + " |";
  out += "\n|";
  for (std::size_t c = 0; c < header_.size(); ++c) out += " --- |";
  out += "\n";
  for (const auto& row : rows_) {
    out += "|";
    for (const std::string& cell : row) {
      out += " ";
      for (const char ch : cell) out += ch == '|' ? "\\|" : std::string(1, ch);
      out += " |";
    }
    out += "\n";
  }
  return out;
}

}  // namespace autoglm
