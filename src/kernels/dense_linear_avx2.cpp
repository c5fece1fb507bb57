// AVX2; see dense_loops.h for what may be included here.
#define AUTOGLM_VECTOR_BYTES 32
#if defined(__AVX2__)
#include "kernels/dense_loops.h"

namespace autoglm::kernels {

const DenseImplementation* avx2_dense() {
  static constexpr DenseImplementation value = {"avx2", dense_linear_any};
  return &value;
}

}  // namespace autoglm::kernels

#else

namespace autoglm::kernels {
struct DenseImplementation;
const DenseImplementation* avx2_dense() { return nullptr; }
}  // namespace autoglm::kernels

#endif
