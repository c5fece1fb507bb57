// Error feedback, as Optimal Brain Surgeon has it made affordable by GPTQ
// (arXiv 2210.17323) and SparseGPT (arXiv 2301.00774): a matrix is changed
// column by column, and what one column loses is put into the columns that are
// not yet done, in the proportion that costs the layer's output least.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>

namespace autoglm {

/// What all rows of a matrix share.
struct Feedback {
  at::Tensor order;    // [in] int64: column of the matrix at each turn
  at::Tensor factor;   // [in, in] fp32, upper: row k holds how the error of
                       // turn k spreads over the later turns
  double damping = 0;  // share of the mean diagonal that was added
};

/// Falling input energy ("act-order"), or as the columns stand.
enum class Turns { kByEnergy, kAsTheyStand };

/// `moments` [in, in]: sums of z z' over the calibration tokens. An input that
/// is never anything but zero gets the mean energy, so that its column takes
/// and gives nothing. Starts with 1 % damping and takes ten times as much until
/// the factorization succeeds. Throws kNumeric for NaN or infinity.
Feedback make_feedback(const at::Tensor& moments,
                       Turns turns = Turns::kByEnergy);

/// Goes through `rest` fp32 [in, out], a matrix's columns as contiguous rows in
/// the order of their turns, which it changes. error_of(k, error) writes what
/// the column rest[k] loses to `error` [out]; at k, a multiple of `block`, the
/// columns up to k + block have all corrections of the earlier turns.
template <class ErrorOf>
void feed_back(at::Tensor& rest, const Feedback& feedback, std::int64_t block,
               const ErrorOf& error_of) {
  const std::int64_t in = rest.size(0);
  const at::Tensor spread = feedback.factor.diagonal().reciprocal();
  for (std::int64_t begin = 0; begin < in; begin += block) {
    const std::int64_t count = std::min(block, in - begin);
    const std::int64_t end = begin + count;
    const at::Tensor rows = feedback.factor.narrow(0, begin, count);
    at::Tensor errors = at::empty({count, rest.size(1)}, rest.options());
    for (std::int64_t k = begin; k < end; ++k) {
      at::Tensor error = errors[k - begin];
      error_of(k, error);
      error.mul_(spread[k]);
      const std::int64_t left = end - k - 1;
      if (left > 0)
        rest.narrow(0, k + 1, left)
            .addr_(rows[k - begin].narrow(0, k + 1, left), error, 1, -1);
    }
    // One product for all later columns instead of one for each turn.
    if (end < in)
      rest.narrow(0, end, in - end)
          .addmm_(rows.narrow(1, end, in - end).t(), errors, 1, -1);
  }
}

}  // namespace autoglm
