// Compiled with -mavx2 -mfma -mf16c.
#include "kernels/integer_implementation.h"

#if defined(__AVX2__) && defined(__F16C__)
#include "kernels/integer_avx2.h"

namespace autoglm::kernels {

const IntegerImplementation* avx2_integer_implementation() {
  using Isa = Avx2Integer<false>;
  static constexpr IntegerImplementation value = {
      "avx2", integer_linear_any<Isa>, round_row_any<Isa>};
  return &value;
}

}  // namespace autoglm::kernels

#else

namespace autoglm::kernels {
const IntegerImplementation* avx2_integer_implementation() { return nullptr; }
}  // namespace autoglm::kernels

#endif
