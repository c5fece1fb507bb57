// Multiplication of a dense matrix with few rows, at the speed of memory: what
// a decode step does with matrices that are not quantized. BLAS libraries are
// made for many rows and read a matrix at a fraction of that speed for one.
#pragma once

#include <cstdint>

#include "autoglm/kernels/cuda_kernels.h"

namespace autoglm::kernels {

/// A weight [out, in]; row o starts at element o * stride.
struct DenseMatrix {
  const void* values;
  cuda::NumberType type;
  std::int64_t out, in, stride;
};

/// y[m][o] = sum_k x[m][k] * weight[o][k] for the rows o of [row_begin,
/// row_end), in fp32. x: [rows, in], y: [rows, out] fp32; only the named
/// columns are written. The order of a sum depends on the width of the
/// registers alone, not on the number of rows or on the range.
void dense_linear(const DenseMatrix& weight, const float* x, std::int64_t rows,
                  float* y, std::int64_t row_begin, std::int64_t row_end);

/// The implementation chosen on this machine: "avx512", "avx2" or "scalar".
const char* dense_linear_kernel();

/// For tests and benchmarks: forces an implementation by name; false when this
/// machine cannot run it. "auto" goes back to the choice above.
bool force_dense_linear_kernel(const char* name);

}  // namespace autoglm::kernels
