#include "model/device_calls.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {

using kernels::cuda::Status;

std::optional<kernels::cuda::NumberType> number_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return kernels::cuda::NumberType::kFloat32;
    case at::kBFloat16:
      return kernels::cuda::NumberType::kBFloat16;
    case at::kHalf:
      return kernels::cuda::NumberType::kFloat16;
    default:
      return std::nullopt;
  }
}

bool is_queued(Status status) {
  if (status == Status::kLaunchFailed || status == Status::kNoWorkspace)
    fail(ErrorKind::kInternal, fmt::format("a kernel of the device: {}",
                                           kernels::cuda::text(status)));
  return status == Status::kOk;
}

at::Tensor workspace_like(const at::Tensor& x, std::int64_t bytes) {
  return bytes > 0 ? at::empty({bytes}, x.options().dtype(at::kByte))
                   : at::Tensor();
}

}  // namespace autoglm
