#include "model/cpu_stream.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "autoglm/kernels/cpu_stream_kernels.h"

namespace autoglm {
namespace {

namespace cpu = kernels::cpu;
using kernels::cuda::NumberType;
using kernels::cuda::Status;
using kernels::cuda::Stream;

// Numbers that a thread should have to do with before another is woken.
constexpr std::int64_t kGrain = std::int64_t{1} << 14;

std::int64_t grain(std::int64_t size) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, size));
}

// All `count` pieces of `size` numbers.
template <class Arguments>
Status run(void (*kernel)(const Arguments&, std::int64_t, std::int64_t),
           const Arguments& arguments, std::int64_t count, std::int64_t size) {
  if (arguments.type != NumberType::kFloat32) return Status::kBadType;
  at::parallel_for(0, count, grain(size),
                   [&](std::int64_t begin, std::int64_t end) {
                     kernel(arguments, begin, end);
                   });
  return Status::kOk;
}

Status attend(const kernels::cuda::AttentionArguments& a, Stream) {
  if (!cpu::can_attend(a)) return Status::kBadType;
  const std::int64_t parts = cpu::attention_parts(a);
  run(cpu::attend, a, parts,
      a.batch * a.groups * a.tokens * a.size /
          std::max<std::int64_t>(1, parts));
  return run(cpu::merge_attention, a, a.batch * a.heads, a.size);
}

}  // namespace

const DeviceKernels& cpu_stream_kernels() {
  static const DeviceKernels kernels = [] {
    DeviceKernels out = {};
    out.stream = [](at::Device) -> Stream { return nullptr; };
    out.launch.rms_norm = [](const auto& a, Stream) {
      return run(cpu::rms_norm, a, a.rows, a.size);
    };
    out.launch.silu_product = [](const auto& a, Stream) {
      return run(cpu::silu_product, a, a.rows, a.size);
    };
    out.launch.rotate_heads = [](const auto& a, Stream) {
      return run(cpu::rotate_heads, a, a.batch * a.heads * a.tokens, a.size);
    };
    out.launch.decode_attention = attend;
    out.launch.attention_workspace = [](std::int64_t batch, std::int64_t heads,
                                        std::int64_t, std::int64_t tokens,
                                        std::int64_t size) {
      return cpu::attention_workspace(batch, heads, tokens, size);
    };
    return out;
  }();
  return kernels;
}

}  // namespace autoglm
