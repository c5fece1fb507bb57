// How much faster one model is than another, and how sure that is.
#pragma once

#include <vector>

namespace autoglm {

struct SpeedRatio {
  double ratio = 1;          // above 1: the first is faster
  double low = 1, high = 1;  // 95 % confidence interval
};

/// Milliseconds of the same rounds, in which both took turns: exp of the mean
/// log(second / first), with Student's interval over the rounds. A drift of the
/// machine that hits both models of a round cancels. One round alone has no
/// interval: low is 0 and high infinite. Throws kInternal for lists that are
/// empty, of different lengths, or hold numbers that are not above 0.
SpeedRatio speed_ratio(const std::vector<double>& first_ms,
                       const std::vector<double>& second_ms);

}  // namespace autoglm
