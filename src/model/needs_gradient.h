#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace autoglm {

/// True where what is computed from x has to be known to autograd, of which
/// our own kernels know nothing. False for an undefined tensor.
inline bool needs_gradient(const at::Tensor& x) {
  return at::GradMode::is_enabled() && x.defined() && x.requires_grad();
}

}  // namespace autoglm
