// Numbers as text, the same in every part of a report.
#pragma once

#include <cstdint>
#include <string>

namespace autoglm::report {

constexpr const char* kMinus = "\u2212";  // as wide as a plus

std::string percent(double share, int decimals = 2);      // 0.934 -> "93.40 %"
std::string change_percent(double before, double after);  // "-12.3 %"
std::string milliseconds(double value);                   // "3.21 ms"
std::string significant(double value);                    // four digits
std::string thousands(std::uint64_t value);               // "51,200"

}  // namespace autoglm::report
