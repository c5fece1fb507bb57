// Weight: how a matrix is held. A closed set: a pass may change a weight from
// one form to another; checkpoint, footprint and forward handle all of them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace autoglm {

/// [out, in], floating point, any strides.
struct DenseWeight {
  at::Tensor value;
  /// Only with a value in bf16: where rows are many, x in fp32 is rounded to
  /// bf16 as well. Such a weight is only computed with.
  bool rounds_inputs = false;
};

/// What happens to the vectors that a quantized matrix multiplies: nothing, or
/// they are rounded too, symmetrically, to int8 before a QuantizedWeight and to
/// e4m3 before a Float8Weight.
struct ActivationScheme {
  bool quantized = false;
  /// [1], above 0: the step, of all vectors alike. Undefined: each vector has
  /// its own, max |x| / 127 (e4m3: max |x| / 448).
  at::Tensor scale;

  bool dynamic() const { return !scale.defined(); }
};

/// Integer codes with one scale (and zero point) per row and group, in memory
/// as on disk (compressed-tensors `pack-quantized`, see
/// kernels/packed_linear.h): weight = (code - zero) * scale.
struct QuantizedWeight {
  at::Tensor codes;   // int32 [out, ceil(in * bits / 32)], contiguous
  at::Tensor scales;  // [out, groups], the model's dtype, contiguous
  at::Tensor zeros;   // uint8 [out, groups] stored codes; undefined: symmetric
  std::int64_t out = 0;
  std::int64_t in = 0;
  std::int64_t group_size = 0;  // == in: one scale per row; divides in
  int bits = 0;                 // 2..8
  /// Only where bits == 8, group_size == in, symmetric().
  ActivationScheme activations = {};
  /// The tensors are laid out for products in whole numbers
  /// (kernels/interleaved.h): codes uint8 [tiles, bytes], scales and zeros
  /// [tiles, groups, 16]. Such a weight is only computed with: passes and
  /// checkpoints see packed ones.
  bool interleaved = false;

  bool symmetric() const { return !zeros.defined(); }
  std::int64_t groups() const { return in / group_size; }
};

/// Floating point numbers of 8 bits, four of them exponent and three mantissa
/// (e4m3 without infinities: up to 448, Micikevicius et al. 2022,
/// arXiv:2209.05433), with one scale per row: weight = value * scale.
struct Float8Weight {
  at::Tensor values;  // float8_e4m3fn [out, in], contiguous
  at::Tensor scales;  // [out, 1], the model's dtype or fp32, contiguous
  ActivationScheme activations = {};
};

using Weight = std::variant<DenseWeight, QuantizedWeight, Float8Weight>;

/// "dense bf16", "int4 g64 asymmetric", "fp8 e4m3 channel", "int8 channel
/// symmetric with int8 inputs" ("... static int8 inputs"); for tables.
std::string describe(const Weight& weight);

/// All tensors that hold it.
std::vector<at::Tensor> tensors(const Weight& weight);

std::int64_t rows(const Weight& weight);     // out
std::int64_t columns(const Weight& weight);  // in
/// Bytes of all tensors that hold it.
std::uint64_t bytes(const Weight& weight);
/// Bits per element counting codes only: 16, 32, or the code width.
double code_bits(const Weight& weight);
at::ScalarType dtype(const Weight& weight);  // of values or scales
at::Device device(const Weight& weight);

/// The matrix in floating point [out, in]. A dense weight of that dtype is
/// returned as it is, without a copy.
at::Tensor to_dense(const Weight& weight, at::ScalarType dtype);

/// Rows of an embedding table: ids int64 of any shape -> [..., in]. Only the
/// rows asked for are dequantized.
at::Tensor select_rows(const Weight& weight, const at::Tensor& ids,
                       at::ScalarType dtype);

/// x [..., in] -> [..., out] in x's dtype, plus `bias` [out] if defined, or one
/// per token [..., out], whose gradient is that at the output. Few rows run
/// through the packed kernel of the CPU, or of a device that has kernels
/// (model/device_kernels.h); many are dequantized first.
/// An interleaved weight rounds x to 8 bits, each span of up to 64 elements by
/// its own step, unless a gradient is asked for.
/// Differentiable in x, and in a dense weight of x's dtype that asks for it.
/// Where activations are rounded their gradient passes as if they were not,
/// and stops at those that a given step cuts off.
at::Tensor apply_linear(const at::Tensor& x, const Weight& weight,
                        const at::Tensor& bias);

/// What apply_linear runs for `rows` rows of x: "dense", "dense bf16" where x
/// is rounded to it, "dense bf16 avx512" (also fp16, fp32; avx2, scalar) for
/// few rows, "packed avx512" (also avx2, scalar), "int8 gemm" where activations
/// are int8 too, "integer avx512vnni" (also amx, avxvnni, avx2, scalar) for an
/// interleaved weight, "cuda packed", "cuda int8 x int8", "cuda fp8", "cuda fp8
/// x fp8" for a kernel of the device, or "dequantize + gemm", which is no
/// low-bit kernel.
std::string linear_kernel(const Weight& weight, std::int64_t rows);

/// Packs codes uint8 [out, in] (values < 2^bits) with scales [out, groups]
/// and, when asymmetric, zeros uint8 [out, groups].
QuantizedWeight pack_weight(const at::Tensor& codes, const at::Tensor& scales,
                            const at::Tensor& zeros, int bits,
                            std::int64_t group_size);

/// Unsigned codes uint8 [out, in].
at::Tensor unpack_codes(const QuantizedWeight& weight);

/// The finite matrix [out, in] rounded to the nearest e4m3 values, one scale
/// per row: max |w| / 448 in `scale_dtype`; 1 for a row of zeros. Never NaN:
/// what lies beyond the range is cut off.
Float8Weight round_float8(const at::Tensor& weight, at::ScalarType scale_dtype);

/// What the weight says about activations; none for a dense one.
ActivationScheme activations(const Weight& weight);
/// True for e4m3, and for symmetric int8 with one scale per row.
bool takes_activations(const Weight& weight);
/// `weight` with rounded activations, by the step `scale` [1] or, if undefined,
/// each vector by its own. Throws kConfig, naming its form, for a weight that
/// does not take them.
Weight with_activations(const Weight& weight, const at::Tensor& scale = {});

Weight to_device(const Weight& weight, at::Device device);

/// `weight` laid out for products in whole numbers, its tensors copied. As it
/// is where that is not to be had: no integer codes, not on the CPU, groups
/// that end inside four elements. Throws kResources without memory for it.
Weight interleaved(const Weight& weight);

}  // namespace autoglm
