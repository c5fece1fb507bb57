#include "model/cpu_stream.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "autoglm/kernels/cpu_stream_kernels.h"
#include "model/needs_gradient.h"

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

bool is_readable(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.stride(3) == 1 &&
         !needs_gradient(x);
}

void copy_strides(const at::Tensor& x, std::int64_t* to) {
  for (int i = 0; i < 3; ++i) to[i] = x.stride(i);
}

}  // namespace

at::Tensor cpu_prompt_attention(const at::Tensor& query, const at::Tensor& key,
                                const at::Tensor& value) {
  if (!is_readable(query) || !is_readable(key) || !is_readable(value) ||
      key.sizes() != value.sizes() || query.size(2) != key.size(2) ||
      query.size(3) != key.size(3) || query.numel() == 0)
    return {};
  cpu::PromptArguments p = {};
  p.query = query.const_data_ptr<float>();
  p.keys = key.const_data_ptr<float>();
  p.values = value.const_data_ptr<float>();
  copy_strides(query, p.query_strides);
  copy_strides(key, p.key_strides);
  copy_strides(value, p.value_strides);
  p.batch = query.size(0);
  p.heads = query.size(1);
  p.groups = key.size(1);
  p.queries = p.tokens = query.size(2);
  p.size = query.size(3);
  p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(p.size)));
  if (!cpu::can_attend_prompt(p)) return {};
  at::Tensor y = at::empty(query.sizes(), query.options());
  p.y = y.data_ptr<float>();
  at::parallel_for(0, cpu::prompt_tiles(p), 1,
                   [&](std::int64_t begin, std::int64_t end) {
                     cpu::attend_prompt(p, begin, end);
                   });
  return y;
}

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
