// Multiplication with a packed low-bit weight on the CPU: codes are unpacked
// in registers and never stored as floats, so a decode step reads bits/32 of
// the bytes of an fp32 weight. Plain pointers, no torch, no threads of its
// own: callers split the output rows among threads.
#pragma once

#include <cstdint>

namespace autoglm::kernels {

enum class ScaleType { kFloat32, kBFloat16, kFloat16 };

/// A weight [out, in] in the compressed-tensors `pack-quantized` layout: per
/// row a little-endian bit stream, element k in bits [k*bits, (k+1)*bits),
/// rows padded to whole 32-bit words; stored code c = q + 2^(bits-1).
/// weight[o][k] = (c - zero) * scale, one scale per group of `group_size`
/// consecutive elements of a row; the last group may be shorter.
struct PackedMatrix {
  const std::uint32_t* codes;  // [out, ceil(in * bits / 32)]
  const void* scales;          // [out, groups] of scale_type
  ScaleType scale_type;
  const std::uint8_t* zeros;  // [out, groups] stored zero codes, or null:
                              // symmetric, zero = 2^(bits-1)
  std::int64_t out;
  std::int64_t in;
  std::int64_t group_size;  // 1..in
  int bits;                 // 2..8

  std::int64_t words() const { return (in * bits + 31) / 32; }
  std::int64_t groups() const { return (in + group_size - 1) / group_size; }
};

/// y[m][o] = sum_k x[m][k] * weight[o][k] for o in [row_begin, row_end).
/// x: [rows, in] fp32, y: [rows, out] fp32 (only the named columns written).
/// Meant for few rows (decode); any number is right.
void packed_linear(const PackedMatrix& weight, const float* x,
                   std::int64_t rows, float* y, std::int64_t row_begin,
                   std::int64_t row_end);

/// Dequantizes rows [row_begin, row_end) into `out` [rows, in] fp32.
void unpack_rows(const PackedMatrix& weight, std::int64_t row_begin,
                 std::int64_t row_end, float* out);

/// Packs unsigned codes [out, in] (one per byte, < 2^bits) into words
/// [out, words]; padding bits are 0.
void pack_rows(const std::uint8_t* codes, std::int64_t out, std::int64_t in,
               int bits, std::uint32_t* words);

/// Unpacks to one unsigned code per byte: the inverse of pack_rows.
void unpack_codes(const std::uint32_t* words, std::int64_t out, std::int64_t in,
                  int bits, std::uint8_t* codes);

/// The implementation chosen on this machine: "avx512", "avx2" or "scalar".
const char* packed_linear_kernel();

/// For tests and benchmarks: forces an implementation by name; false when
/// this machine cannot run it. "auto" goes back to the choice above.
bool force_packed_linear_kernel(const char* name);

}  // namespace autoglm::kernels
