// Compiled with -mavx2 -mfma -mf16c -mavxvnni.
#include "kernels/integer_implementation.h"

#if defined(__AVXVNNI__)
#include "kernels/integer_avx2.h"

namespace autoglm::kernels {

const IntegerImplementation* avxvnni_integer_implementation() {
  using Isa = Avx2Integer<true>;
  static constexpr IntegerImplementation value = {
      "avxvnni", integer_linear_any<Isa>, round_row_any<Isa>};
  return &value;
}

}  // namespace autoglm::kernels

#else

namespace autoglm::kernels {
const IntegerImplementation* avxvnni_integer_implementation() {
  return nullptr;
}
}  // namespace autoglm::kernels

#endif
