// How far two tensors are apart.
#pragma once

#include <ATen/ATen.h>

namespace autoglm::test {

/// ||a - b|| / ||b||, in fp32.
inline double relative(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = b.to(at::kFloat);
  return ((a.to(at::kFloat) - wide).norm() / wide.norm()).item<double>();
}

/// max |a - b| / max |b|.
inline double relative_peak(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

}  // namespace autoglm::test
