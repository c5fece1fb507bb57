// What device_stream.h calls on the CPU, where no other kernels are set for it.
#pragma once

#include "autoglm/model/device_kernels.h"

namespace autoglm {

/// A table of autoglm/kernels/cpu_stream_kernels.h on libtorch's threads: norm,
/// gated activation, rotation and decode attention in fp32; other dtypes are
/// unsupported. Its products are null, it records nothing.
const DeviceKernels& cpu_stream_kernels();

}  // namespace autoglm
