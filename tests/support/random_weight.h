// Random quantized matrices.
#pragma once

#include <ATen/ATen.h>

#include "autoglm/model/weight.h"

namespace autoglm::test {

/// Codes of all values, scales of 0.1 .. 1.1 in `dtype`; asymmetric ones have
/// zeros of 0 .. 2^bits - 1.
inline QuantizedWeight random_weight(int bits, std::int64_t out,
                                     std::int64_t in, std::int64_t group,
                                     bool symmetric,
                                     at::ScalarType dtype = at::kBFloat16) {
  const auto codes = [&](std::int64_t columns) {
    return at::randint(1 << bits, {out, columns}, at::kLong).to(at::kByte);
  };
  return pack_weight(codes(in), (at::rand({out, in / group}) + 0.1).to(dtype),
                     symmetric ? at::Tensor() : codes(in / group), bits, group);
}

}  // namespace autoglm::test
