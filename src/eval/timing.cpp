#include "eval/timing.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "autoglm/core/error.h"
#include "autoglm/eval/accelerator.h"

namespace autoglm {

double time_ms(at::Device device, const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  if (device.is_cuda()) {
    Accelerator* cuda = find_cuda();
    AUTOGLM_ENSURE(cuda != nullptr);
    return cuda->time_ms(device.index(), body);
  }
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

double copy_bandwidth(at::Device device) {
  const std::int64_t size = 256 << 20;
  const auto options = at::TensorOptions(at::kByte).device(device);
  const at::Tensor from = at::ones({size}, options);
  at::Tensor to = at::empty({size}, options);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double ms = time_ms(device, [&] {
      if (device.is_cuda()) {
        to.copy_(from);
        return;
      }
      char* out = static_cast<char*>(to.mutable_data_ptr());
      const char* in = static_cast<const char*>(from.const_data_ptr());
      at::parallel_for(0, size, size / at::get_num_threads(),
                       [&](std::int64_t begin, std::int64_t end) {
                         std::memcpy(out + begin, in + begin,
                                     static_cast<std::size_t>(end - begin));
                       });
    });
    if (i > 0)
      best = std::max(best, 2.0 * static_cast<double>(size) / ms / 1e6);
  }
  return best;
}

}  // namespace autoglm
