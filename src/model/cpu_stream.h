// What device_stream.h calls on the CPU, where no other kernels are set for it.
#pragma once

#include "autoglm/model/device_kernels.h"

namespace autoglm {

/// A table of autoglm/kernels/cpu_stream_kernels.h on libtorch's threads: norm,
/// gated activation, rotation and decode attention in fp32; other dtypes are
/// unsupported. Its products are null, it records nothing.
const DeviceKernels& cpu_stream_kernels();

/// Attention of a prompt's tokens, each over itself and those before it. query
/// [B, N, T, D], key and value [B, G, T, D] -> [B, N, T, D]; undefined where it
/// does not apply: other devices and dtypes than fp32 on the CPU, heads of no
/// multiple of 16 or more than 256, a gradient asked for.
at::Tensor cpu_prompt_attention(const at::Tensor& query, const at::Tensor& key,
                                const at::Tensor& value);

}  // namespace autoglm
