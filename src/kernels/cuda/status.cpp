#include "autoglm/kernels/cuda_kernels.h"

namespace autoglm::kernels::cuda {

const char* text(Status status) {
  switch (status) {
    case Status::kOk:
      return "fine";
    case Status::kBadBits:
      return "codes have 2 to 8 bits";
    case Status::kBadSize:
      return "a size is below 1, above 2^30, or does not fit the others";
    case Status::kBadAlignment:
      return "a pointer is not aligned to what it points to";
    case Status::kBadType:
      return "this function does not take numbers of this type";
    case Status::kBadHeadSize:
      return "heads have 64 or 128 dims";
    case Status::kNoWorkspace:
      return "no workspace was given";
    case Status::kLaunchFailed:
      return "the kernel could not be started";
  }
  return "unknown status";
}

}  // namespace autoglm::kernels::cuda
