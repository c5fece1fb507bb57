// What stands between two products, through the kernels of the stream's device;
// the CPU has some for fp32. Every function returns an undefined tensor where
// no kernel applies: no kernels there, a dtype or a layout they do not take, a
// gradient asked for.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/model/model.h"
#include "autoglm/model/positions.h"

namespace autoglm {

/// The RMSNorm of x [..., n]; not of norms with a bias.
at::Tensor device_norm(const Norm& norm, const at::Tensor& x, double epsilon);

struct NormedSum {
  at::Tensor sum;     // x + y
  at::Tensor normed;  // its RMSNorm
};
/// Both in one pass; x and y [..., n].
NormedSum device_norm_of_sum(const Norm& norm, const at::Tensor& x,
                             const at::Tensor& y, double epsilon);

/// silu(gate) * up, both [..., n], which may be halves of one tensor.
at::Tensor device_silu_product(const at::Tensor& gate, const at::Tensor& up);

/// x [B, heads, T, D] with the first `size` dims of every head turned.
at::Tensor device_rotate(const at::Tensor& x, const AttentionContext& context,
                         Rotary rotary, std::int64_t size);

/// softmax(query * key^T / sqrt(D) + bias) * value for one new token of each
/// sequence. query [B, N, 1, D]; keys and values [B, G, T, D], or coded as a
/// KvCache holds them with `bits` above 0; bias fp32 [B or 1, 1, 1, T] or
/// undefined; lengths int32 [B], how many of the T are filled, or undefined:
/// all. -> [B, N, 1, D].
at::Tensor device_decode_attention(const at::Tensor& query,
                                   const at::Tensor& keys,
                                   const at::Tensor& values,
                                   const at::Tensor& bias,
                                   const at::Tensor& lengths, int bits);

}  // namespace autoglm
