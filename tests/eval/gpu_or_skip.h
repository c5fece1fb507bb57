// Tests of a GPU on machines without one.
#pragma once

#include <string>

#include "autoglm/eval/accelerator.h"
#include "tests/support/catch.h"

namespace autoglm::test {

/// The accelerator, or null pointer after saying why the test has nothing to
/// do.
inline Accelerator* accelerator_or_skip() {
  std::string why;
  Accelerator* cuda = find_cuda(&why);
  if (cuda == nullptr) WARN("skipped, no CUDA device: " << why);
  return cuda;
}

/// The same for our own kernels.
inline bool kernels_or_skip() {
  std::string why;
  if (has_cuda_kernels(&why)) return true;
  WARN("skipped, no CUDA kernels: " << why);
  return false;
}

}  // namespace autoglm::test
