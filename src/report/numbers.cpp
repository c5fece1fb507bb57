#include "report/numbers.h"

#include <cmath>

#include "autoglm/core/text.h"

namespace autoglm::report {

std::string percent(double share, int decimals) {
  return fmt::format("{:.{}f} %", 100 * share, decimals);
}

std::string change_percent(double before, double after) {
  if (before == 0) return "-";
  const double change = 100 * (after - before) / before;
  if (std::abs(change) < 0.005) return "0 %";
  return fmt::format("{}{:.{}f} %", change < 0 ? kMinus : "+", std::abs(change),
                     std::abs(change) < 1 ? 2 : 1);
}

std::string milliseconds(double value) {
  if (value >= 10'000) return fmt::format("{:.1f} s", value / 1000);
  return fmt::format("{:.{}f} ms", value,
                     value >= 100  ? 0
                     : value >= 10 ? 1
                     : value >= 1  ? 2
                                   : 3);
}

std::string significant(double value) { return fmt::format("{:.4g}", value); }

std::string thousands(std::uint64_t value) {
  std::string digits = std::to_string(value);
  for (std::size_t i = digits.size(); i > 3; i -= 3)
    digits.insert(i - 3, 1, ',');
  return digits;
}

}  // namespace autoglm::report
