#include "kernels/cuda/linear_launch.cuh"

namespace autoglm::kernels::cuda {

Status launch_narrow_fp16(int bits, const LinearTask& task, Stream stream) {
  return launch_bits<Float16, false>(bits, task, stream);
}

}  // namespace autoglm::kernels::cuda
