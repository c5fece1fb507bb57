#include "autoglm/kernels/dense_linear.h"

#include "kernels/choice.h"
#include "kernels/cpu_features.h"
#define AUTOGLM_VECTOR_BYTES 16
#include "kernels/dense_loops.h"

namespace autoglm::kernels {
namespace {

Choice<DenseImplementation>& chosen() {
  static constexpr DenseImplementation scalar = {"scalar", dense_linear_any};
  static Choice<DenseImplementation> value = {{avx512_dense(), has_avx512()},
                                              {avx2_dense(), has_avx2()},
                                              {&scalar, true}};
  return value;
}

}  // namespace

void dense_linear(const DenseMatrix& weight, const float* x, std::int64_t rows,
                  float* y, std::int64_t row_begin, std::int64_t row_end) {
  chosen()->linear(weight, x, rows, y, row_begin, row_end);
}

const char* dense_linear_kernel() { return chosen()->name; }

bool force_dense_linear_kernel(const char* name) {
  return chosen().force(name);
}

}  // namespace autoglm::kernels
