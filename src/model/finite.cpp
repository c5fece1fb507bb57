#include "model/finite.h"

#include <ATen/Parallel.h>

#include <atomic>

namespace autoglm {
namespace {

// A number is not finite exactly when all these bits are set: those of its
// exponent, in e4m3 all but the sign.
template <class Word>
bool finite_words(const void* data, std::int64_t count, Word bits) {
  const auto* words = static_cast<const Word*>(data);
  std::atomic<bool> finite = true;
  at::parallel_for(0, count, 1 << 16,
                   [&](std::int64_t begin, std::int64_t end) {
                     bool bad = false;
                     for (std::int64_t i = begin; i < end; ++i)
                       bad |= (words[i] & bits) == bits;
                     if (bad) finite = false;
                   });
  return finite;
}

}  // namespace

bool all_finite(const at::Tensor& tensor) {
  const bool float8 = tensor.scalar_type() == at::kFloat8_e4m3fn;
  if (!tensor.is_cpu() || !tensor.is_non_overlapping_and_dense())
    return at::isfinite(float8 ? tensor.to(at::kFloat) : tensor)
        .all()
        .item<bool>();
  const void* data = tensor.const_data_ptr();
  switch (tensor.scalar_type()) {
    case at::kFloat8_e4m3fn:
      return finite_words<std::uint8_t>(data, tensor.numel(), 0x7F);
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
