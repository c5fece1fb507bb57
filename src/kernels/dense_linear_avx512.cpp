// AVX-512; see dense_loops.h for what may be included here.
#define AUTOGLM_VECTOR_BYTES 64
#if defined(__AVX512F__)
#include "kernels/dense_loops.h"

namespace autoglm::kernels {

const DenseImplementation* avx512_dense() {
  static constexpr DenseImplementation value = {"avx512", dense_linear_any};
  return &value;
}

}  // namespace autoglm::kernels

#else

namespace autoglm::kernels {
struct DenseImplementation;
const DenseImplementation* avx512_dense() { return nullptr; }
}  // namespace autoglm::kernels

#endif
