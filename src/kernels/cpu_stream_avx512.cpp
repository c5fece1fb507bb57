// AVX-512; see cpu_stream_loops.h for what may be included here.
#define AUTOGLM_VECTOR_BYTES 64
#include "kernels/cpu_stream_loops.h"

namespace autoglm::kernels::cpu {

#if defined(__AVX512F__)
const StreamImplementation* avx512_stream() {
  static constexpr StreamImplementation value = stream_implementation("avx512");
  return &value;
}
#else
const StreamImplementation* avx512_stream() { return nullptr; }
#endif

}  // namespace autoglm::kernels::cpu
