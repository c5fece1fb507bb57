// The kernels of products, compiled for the emulated device.
#include "tests/kernels/cuda/emulated_device.h"
// The device first.
#include "kernels/cuda/linear.cu"
#include "kernels/cuda/linear_narrow_bf16.cu"
#include "kernels/cuda/linear_narrow_fp16.cu"
#include "kernels/cuda/linear_wide_bf16.cu"
#include "kernels/cuda/linear_wide_fp16.cu"
