// Models whose matrices are quantized by rounding.
#pragma once

#include <ATen/ATen.h>

#include "autoglm/model/model.h"
#include "tests/support/tiny_model.h"

namespace autoglm::test {

/// The nearest symmetric codes; `group` divides the columns.
inline QuantizedWeight packed(const at::Tensor& dense, int bits,
                              std::int64_t group) {
  const std::int64_t groups = dense.size(1) / group;
  const double most = (1 << (bits - 1)) - 1;
  const at::Tensor parts =
      dense.to(at::kFloat).reshape({dense.size(0), groups, group});
  const at::Tensor scales =
      (parts.abs().amax(-1).clamp_min(1e-6) / most).to(at::kBFloat16);
  const at::Tensor codes =
      (parts / scales.to(at::kFloat).unsqueeze(-1)).round().clamp(-most, most) +
      most + 1;
  return pack_weight(codes.to(at::kByte).flatten(1), scales, {}, bits, group);
}

/// Every matrix of the model packed, the embedding too.
inline Model packed_model(Model model, int bits, std::int64_t group) {
  for (const NamedLinear& linear : named_linears(model)) {
    Weight& weight = weight_of(model, linear.name);
    weight = packed(to_dense(weight, at::kFloat), bits, group);
  }
  return model;
}

}  // namespace autoglm::test
