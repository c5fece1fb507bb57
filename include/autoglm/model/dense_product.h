// Products of dense matrices in fp32 on the CPU, by the fastest library that
// libtorch brings: oneDNN, whose kernels use AVX-512 on any processor that has
// it, where libtorch itself would call MKL, which does so on Intel's alone.
#pragma once

#include <ATen/ATen.h>

namespace autoglm {

/// x [..., in] times the rows of weight [out, in], plus bias [out] or nothing:
/// what at::linear gives, up to rounding, and with gradients like its own (of
/// the first order). Other devices and dtypes go to at::linear, as does
/// everything where at::Context::userEnabledMkldnn() is false.
at::Tensor dense_product(const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias = {});

/// True where this processor multiplies bf16 (AVX-512 BF16, AMX), so that
/// products in it take half the time of those in fp32.
bool has_bfloat16_product();

/// What computes dense_product now: "oneDNN" or "libtorch".
const char* dense_product_library();

/// a' b, of a [n, p] and b [n, q] -> [p, q].
inline at::Tensor inner_product(const at::Tensor& a, const at::Tensor& b) {
  return dense_product(a.t(), b.t());
}

}  // namespace autoglm
