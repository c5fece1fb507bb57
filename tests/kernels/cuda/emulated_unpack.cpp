// unpack_rows, compiled for the emulated device.
#include "tests/kernels/cuda/emulated_device.h"
// The device first.
#include "kernels/cuda/unpack.cu"
