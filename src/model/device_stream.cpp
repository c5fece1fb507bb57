#include "model/device_stream.h"

#include <cmath>

#include "model/coded_heads.h"
#include "model/cpu_stream.h"
#include "model/device_calls.h"
#include "model/needs_gradient.h"

namespace autoglm {
namespace {

namespace cuda = kernels::cuda;

// Null pointer: libtorch. The CPU has kernels of its own.
const DeviceKernels* stream_kernels(const at::Tensor& x) {
  if (needs_gradient(x)) return nullptr;
  if (const DeviceKernels* found = device_kernels_for(x.device())) return found;
  return x.is_cpu() ? &cpu_stream_kernels() : nullptr;
}

// x [..., n] and, added to it, `residual` or nothing.
NormedSum run_norm(const Norm& norm, const at::Tensor& x,
                   const at::Tensor& residual, double epsilon) {
  const DeviceKernels* device = stream_kernels(x);
  const auto type = number_type(x.scalar_type());
  if (device == nullptr || !type || norm.bias.defined() || x.numel() == 0 ||
      needs_gradient(norm.gain))
    return {};
  const at::Tensor from = x.contiguous();
  const at::Tensor gain = norm.gain.to(x.scalar_type()).contiguous();
  NormedSum out;
  out.normed = at::empty(from.sizes(), from.options());
  cuda::NormArguments a = {};
  at::Tensor added;
  if (residual.defined()) {
    added = residual.contiguous();
    out.sum = at::empty(from.sizes(), from.options());
    a.residual = added.const_data_ptr();
    a.sum = out.sum.mutable_data_ptr();
  }
  a.x = from.const_data_ptr();
  a.gain = gain.const_data_ptr();
  a.y = out.normed.mutable_data_ptr();
  a.type = *type;
  a.size = from.size(-1);
  a.rows = from.numel() / a.size;
  a.epsilon = static_cast<float>(epsilon);
  return is_queued(device->launch.rms_norm(a, device->stream(x.device())))
             ? out
             : NormedSum{};
}

// Keys and values of heads of `size` numbers that lie alike, as a kernel reads
// them.
bool are_readable(const at::Tensor& keys, const at::Tensor& values,
                  std::int64_t size, int bits, at::ScalarType dtype) {
  return keys.sizes() == values.sizes() && keys.strides() == values.strides() &&
         keys.scalar_type() == values.scalar_type() && keys.stride(-1) == 1 &&
         keys.scalar_type() == (bits > 0 ? at::kByte : dtype) &&
         keys.size(-1) == (bits > 0 ? coded_head_bytes(size, bits) : size);
}

}  // namespace

at::Tensor device_norm(const Norm& norm, const at::Tensor& x, double epsilon) {
  return run_norm(norm, x, {}, epsilon).normed;
}

NormedSum device_norm_of_sum(const Norm& norm, const at::Tensor& x,
                             const at::Tensor& y, double epsilon) {
  if (x.sizes() != y.sizes() || x.scalar_type() != y.scalar_type() ||
      needs_gradient(y))
    return {};
  return run_norm(norm, x, y, epsilon);
}

at::Tensor device_silu_product(const at::Tensor& gate, const at::Tensor& up) {
  const DeviceKernels* device = stream_kernels(gate);
  const auto type = number_type(gate.scalar_type());
  if (device == nullptr || !type || needs_gradient(up) || gate.numel() == 0 ||
      up.scalar_type() != gate.scalar_type())
    return {};
  const std::int64_t size = gate.size(-1), count = gate.numel() / size;
  at::Tensor from[2] = {gate.reshape({count, size}), up.reshape({count, size})};
  if (from[0].strides() != from[1].strides() || from[0].stride(1) != 1)
    for (at::Tensor& half : from) half = half.contiguous();
  at::Tensor y = at::empty(gate.sizes(), gate.options());
  cuda::SiluArguments a = {};
  a.gate = from[0].const_data_ptr();
  a.up = from[1].const_data_ptr();
  a.stride = count > 1 ? from[0].stride(0) : size;
  a.y = y.mutable_data_ptr();
  a.type = *type;
  a.rows = count;
  a.size = size;
  return is_queued(
             device->launch.silu_product(a, device->stream(gate.device())))
             ? y
             : at::Tensor();
}

at::Tensor device_rotate(const at::Tensor& x, const AttentionContext& context,
                         Rotary rotary, std::int64_t size) {
  const DeviceKernels* device = stream_kernels(x);
  const auto type = number_type(x.scalar_type());
  const bool known = rotary == Rotary::kInterleaved || rotary == Rotary::kHalf;
  if (device == nullptr || !type || !known || x.numel() == 0 ||
      x.stride(-1) != 1 || context.cosine.size(-1) * 2 != size)
    return {};
  const at::Tensor cosine = context.cosine.contiguous();
  const at::Tensor sine = context.sine.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  cuda::RotaryArguments a = {};
  a.x = x.const_data_ptr();
  a.batch_stride = x.stride(0);
  a.head_stride = x.stride(1);
  a.token_stride = x.stride(2);
  a.cosine = cosine.const_data_ptr<float>();
  a.sine = sine.const_data_ptr<float>();
  a.angle_batch_stride = cosine.size(0) == 1 ? 0 : cosine.stride(0);
  a.y = y.mutable_data_ptr();
  a.type = *type;
  a.batch = x.size(0);
  a.heads = x.size(1);
  a.tokens = x.size(2);
  a.size = x.size(3);
  a.turned = size;
  a.interleaved = rotary == Rotary::kInterleaved;
  return is_queued(device->launch.rotate_heads(a, device->stream(x.device())))
             ? y
             : at::Tensor();
}

at::Tensor device_decode_attention(const at::Tensor& query,
                                   const at::Tensor& keys,
                                   const at::Tensor& values,
                                   const at::Tensor& bias,
                                   const at::Tensor& lengths, int bits) {
  const DeviceKernels* device = stream_kernels(query);
  const auto type = number_type(query.scalar_type());
  if (device == nullptr || !type || query.size(2) != 1 ||
      query.stride(-1) != 1 ||
      !are_readable(keys, values, query.size(3), bits, query.scalar_type()))
    return {};
  const std::int64_t batch = query.size(0);
  at::Tensor added;
  if (bias.defined())
    added =
        bias.to(at::kFloat).reshape({bias.size(0), keys.size(2)}).contiguous();
  at::Tensor y = at::empty(query.sizes(), query.options());
  cuda::AttentionArguments a = {};
  a.query = query.const_data_ptr();
  a.query_batch_stride = query.stride(0);
  a.query_head_stride = query.stride(1);
  a.keys = keys.const_data_ptr();
  a.values = values.const_data_ptr();
  a.cache_batch_stride = keys.stride(0);
  a.cache_group_stride = keys.stride(1);
  a.cache_token_stride = keys.stride(2);
  a.cache_bits = bits;
  a.bias = static_cast<const float*>(data_of(added));
  a.bias_batch_stride = added.defined() && added.size(0) > 1 ? keys.size(2) : 0;
  a.lengths = static_cast<const std::int32_t*>(data_of(lengths));
  a.y = y.mutable_data_ptr();
  a.type = *type;
  a.batch = batch;
  a.heads = query.size(1);
  a.groups = keys.size(1);
  a.tokens = keys.size(2);
  a.size = query.size(3);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.size)));
  const at::Tensor workspace =
      workspace_like(query, device->launch.attention_workspace(
                                batch, a.heads, a.groups, a.tokens, a.size));
  a.workspace = workspace.defined() ? workspace.mutable_data_ptr() : nullptr;
  return is_queued(
             device->launch.decode_attention(a, device->stream(query.device())))
             ? y
             : at::Tensor();
}

}  // namespace autoglm
