// The kernels of attention, compiled for the emulated device.
#include "tests/kernels/cuda/emulated_device.h"
// The device first.
#include "kernels/cuda/attention.cu"
