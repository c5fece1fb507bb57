// Dense matrices times few rows on the CPU: a decode step.
#pragma once

#include <ATen/ATen.h>

namespace autoglm {

/// True for a matrix [out, in] in fp32, bf16 or fp16 on the CPU, rows
/// contiguous, and at most as many rows of x as our kernel multiplies faster
/// than libtorch (bench_dense_product).
bool has_few_rows_product(const at::Tensor& weight, std::int64_t rows);

/// x [..., in] times the rows of weight, in x's dtype, the sums in fp32;
/// undefined where that is not to be had or a gradient is asked for.
at::Tensor few_rows_product(const at::Tensor& x, const at::Tensor& weight);

}  // namespace autoglm
