// AVX2; see cpu_stream_loops.h for what may be included here.
#define AUTOGLM_VECTOR_BYTES 32
#include "kernels/cpu_stream_loops.h"

namespace autoglm::kernels::cpu {

#if defined(__AVX2__)
const StreamImplementation* avx2_stream() {
  static constexpr StreamImplementation value = stream_implementation("avx2");
  return &value;
}
#else
const StreamImplementation* avx2_stream() { return nullptr; }
#endif

}  // namespace autoglm::kernels::cpu
