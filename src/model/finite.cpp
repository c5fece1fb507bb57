#include "model/finite.h"

#include <ATen/Parallel.h>

#include <atomic>

namespace autoglm {
namespace {

// In all three types a number is not finite exactly when all bits of its
// exponent are set.
template <class Word>
bool finite_words(const void* data, std::int64_t count, Word exponent) {
  const auto* words = static_cast<const Word*>(data);
  std::atomic<bool> finite = true;
  at::parallel_for(0, count, 1 << 16,
                   [&](std::int64_t begin, std::int64_t end) {
                     bool bad = false;
                     for (std::int64_t i = begin; i < end; ++i)
                       bad |= (words[i] & exponent) == exponent;
                     if (bad) finite = false;
                   });
  return finite;
}

}  // namespace

bool all_finite(const at::Tensor& tensor) {
  if (!tensor.is_cpu() || !tensor.is_non_overlapping_and_dense())
    return at::isfinite(tensor).all().item<bool>();
  const void* data = tensor.const_data_ptr();
  switch (tensor.scalar_type()) {
    case at::kBFloat16:
      return finite_words<std::uint16_t>(data, tensor.numel(), 0x7F80);
    case at::kHalf:
      return finite_words<std::uint16_t>(data, tensor.numel(), 0x7C00);
    case at::kFloat:
      return finite_words<std::uint32_t>(data, tensor.numel(), 0x7F800000);
    default:
      return at::isfinite(tensor).all().item<bool>();
  }
}

}  // namespace autoglm
