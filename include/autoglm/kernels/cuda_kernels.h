// Kernels for NVIDIA GPUs (compute capability 8.0 and newer): plain pointers to
// device memory and a stream, no torch, no allocation, nothing that waits. A
// function checks its arguments, starts its kernels on the stream and returns;
// all may be captured in a CUDA graph. The same input gives the same bits
// again. Built only where nvcc is found; see src/kernels/cuda/.
#pragma once

#include <cstdint>

#include "autoglm/kernels/packed_linear.h"

struct CUstream_st;

namespace autoglm::kernels::cuda {

using Stream = CUstream_st*;  // cudaStream_t
using NumberType = ScaleType;

enum class Status {
  kOk,
  kBadBits,       // bits per code outside 2..8
  kBadSize,       // a size below 1, above 2^30, or that fits no other
  kBadAlignment,  // a pointer that is not aligned to its elements
  kBadType,       // a number type that this function does not take
  kBadHeadSize,   // attention: heads of neither 64 nor 128
  kNoWorkspace,   // null pointer where a workspace is needed
  kLaunchFailed,  // the runtime refused: cudaGetLastError() says why
};

/// A sentence for people.
const char* text(Status status);

/// A weight of e4m3 bytes [out, in] with one scale per row.
struct Float8Matrix {
  const std::uint8_t* values;
  const void* scales;  // [out] of scale_type
  NumberType scale_type;
  std::int64_t out;
  std::int64_t in;
};

/// x [rows, in] of x_type, y [rows, out] of y_type, contiguous.
struct LinearArguments {
  const void* x;
  NumberType x_type;
  const float* row_steps;  // [rows] that the sums are multiplied by, or null
  const void* bias;        // [out] of bias_type, added then, or null
  NumberType bias_type;
  void* y;
  NumberType y_type;
  std::int64_t rows;
  void* workspace;  // linear_workspace(...) bytes, aligned to 16
};

/// y = (x * weight^T) * step of the row + bias, rounded once, for few rows: the weight is read once from memory
/// for up to 8 rows (fp32: 2), again from the cache for every further 8.
/// Weights are decoded exactly, products are exact, sums are fp32. Fast where
/// group_size is a multiple of 32 (8 bits: 16) or one group is the row; rows of
/// codes that start at 16 bytes (in % 128 == 0 always gives that) are read in
/// words of 16 bytes. Any other layout takes a slow kernel.
Status packed_linear(const PackedMatrix& weight,
                     const LinearArguments& arguments, Stream stream);
Status float8_linear(const Float8Matrix& weight,
                     const LinearArguments& arguments, Stream stream);

/// Bytes of workspace that the functions above need; often 0.
std::int64_t linear_workspace(const PackedMatrix& weight, NumberType x_type,
                              std::int64_t rows);
std::int64_t linear_workspace(const Float8Matrix& weight, NumberType x_type,
                              std::int64_t rows);

/// Rows [row_begin, row_end) of the weight as numbers, into `out`
/// [row_end - row_begin, in] of out_type.
Status unpack_rows(const PackedMatrix& weight, std::int64_t row_begin,
                   std::int64_t row_end, void* out, NumberType out_type,
                   Stream stream);
Status unpack_rows(const Float8Matrix& weight, std::int64_t row_begin,
                   std::int64_t row_end, void* out, NumberType out_type,
                   Stream stream);

}  // namespace autoglm::kernels::cuda
