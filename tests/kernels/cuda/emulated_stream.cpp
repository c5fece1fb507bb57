// The kernels on the residual stream, compiled for the emulated device.
#include "tests/kernels/cuda/emulated_device.h"
// The device first.
#include "kernels/cuda/stream.cu"
