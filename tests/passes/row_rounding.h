// The plainest quantizer there is, for tests of what chooses widths.
#pragma once

#include <algorithm>

#include "autoglm/model/model.h"

namespace autoglm::test {

/// Nearest rounding with one scale per row: max|w| is the last code.
inline Weight rounded_rows(const Weight& weight, int bits) {
  const at::Tensor values = to_dense(weight, at::kFloat);
  const auto middle = static_cast<double>(1 << (bits - 1));
  const at::Tensor scales =
      (values.abs().amax(1, /*keepdim=*/true) / (middle - 0.5))
          .clamp_min(1e-6)
          .to(at::kBFloat16);
  const at::Tensor codes = (values / scales.to(at::kFloat) + middle)
                               .round()
                               .clamp(0, 2 * middle - 1);
  return pack_weight(codes.to(at::kByte), scales, {}, bits, values.size(1));
}

/// The same with an entry for a matrix of the model.
inline auto rounds_rows_of(const Model& model) {
  return [&model](const std::string& name, int bits) {
    return rounded_rows(weight_of(model, name), bits);
  };
}

}  // namespace autoglm::test
