#include "kernels/cuda/linear_launch.cuh"

namespace autoglm::kernels::cuda {

Status launch_narrow_bf16(int bits, const LinearTask& task, Stream stream) {
  return launch_bits<BFloat16, false>(bits, task, stream);
}

}  // namespace autoglm::kernels::cuda
