#include "kernels/cuda/linear_launch.cuh"

namespace autoglm::kernels::cuda {

Status launch_wide_bf16(int bits, const LinearTask& task, Stream stream) {
  return launch_bits<BFloat16, true>(bits, task, stream);
}

}  // namespace autoglm::kernels::cuda
