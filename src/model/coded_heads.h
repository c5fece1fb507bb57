// Keys and values in 4 or 8 bits, as a cache may keep them: each head of each
// token by itself, from its least to its greatest number in 2^bits - 1 equal
// steps. Keys have outliers in the same few channels of all tokens and would
// lose less with steps per channel (KIVI, Liu et al. 2024, arXiv:2402.02750);
// but those are not known before a block of tokens is complete, which would
// have to be kept in full until then.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace autoglm {

/// Bytes of a head of `size` numbers: its codes, for 4 bits two in a byte, then
/// step and least number in half precision.
std::int64_t coded_head_bytes(std::int64_t size, int bits);

/// x [..., size], any floating dtype -> uint8 [..., coded_head_bytes(size)].
at::Tensor encode_heads(const at::Tensor& x, int bits);

/// uint8 [..., coded_head_bytes(size)] -> [..., size].
at::Tensor decode_heads(const at::Tensor& coded, std::int64_t size, int bits,
                        at::ScalarType dtype);

/// x as it comes back from a cache. Gradients pass as if it were x.
at::Tensor round_heads(const at::Tensor& x, int bits);

}  // namespace autoglm
