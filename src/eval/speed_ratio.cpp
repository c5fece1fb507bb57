#include "autoglm/eval/speed_ratio.h"

#include <array>
#include <cmath>
#include <limits>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

// Two-sided 95 % quantile of Student's t with n degrees of freedom: a table up
// to 10, then the expansion of Cornish and Fisher (Abramowitz & Stegun,
// 26.7.5), whose error is below 1e-3 from there on.
double student_quantile(std::size_t n) {
  constexpr std::array kTable = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706,
                                 2.4469,  2.3646, 2.3060, 2.2622, 2.2281};
  if (n <= kTable.size()) return kTable[n - 1];
  const double z = 1.959964, z3 = z * z * z, z5 = z3 * z * z;
  const double degrees = static_cast<double>(n);
  return z + (z3 + z) / (4 * degrees) +
         (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees * degrees);
}

}  // namespace

SpeedRatio speed_ratio(const std::vector<double>& first_ms,
                       const std::vector<double>& second_ms) {
  const std::size_t count = first_ms.size();
  AUTOGLM_ENSURE(count > 0 && second_ms.size() == count);
  std::vector<double> logs;
  double mean = 0;
  for (std::size_t i = 0; i < count; ++i) {
    AUTOGLM_ENSURE(first_ms[i] > 0 && second_ms[i] > 0);
    logs.push_back(std::log(second_ms[i] / first_ms[i]));
    mean += logs.back() / static_cast<double>(count);
  }
  if (count == 1)
    return {std::exp(mean), 0, std::numeric_limits<double>::infinity()};
  double squares = 0;
  for (const double value : logs) squares += (value - mean) * (value - mean);
  const double error =
      std::sqrt(squares / static_cast<double>(count * (count - 1)));
  const double reach = student_quantile(count - 1) * error;
  return {std::exp(mean), std::exp(mean - reach), std::exp(mean + reach)};
}

}  // namespace autoglm
