#include "model/device_products.h"

#include "autoglm/core/error.h"
#include "model/dequantize.h"
#include "model/device_calls.h"

namespace autoglm {
namespace {

namespace cuda = kernels::cuda;

// Vectors up to which the kernel is called. It reads the codes anew, from the
// cache, for every 8 of them; dequantizing writes and reads 16 bits an element.
constexpr std::int64_t kDeviceRows = 32;

bool has_fast_groups(const QuantizedWeight& w) {
  return w.group_size == w.in || w.group_size % (w.bits == 8 ? 16 : 32) == 0;
}

cuda::Float8Matrix float8_view(const Float8Weight& w) {
  return {static_cast<const std::uint8_t*>(w.values.const_data_ptr()),
          w.scales.const_data_ptr(), *number_type(w.scales.scalar_type()),
          w.values.size(0), w.values.size(1)};
}

bool has_known_scales(const at::Tensor& scales) {
  return number_type(scales.scalar_type()) && scales.is_contiguous();
}

// Rows of `matrix`, which lies where `scales` do.
template <class Matrix, class Launch>
at::Tensor unpack(const at::Tensor& scales, const Matrix& matrix, Launch launch,
                  std::int64_t begin, std::int64_t end, at::ScalarType dtype) {
  const auto type = number_type(dtype);
  if (!type || begin == end) return {};
  const DeviceKernels& device = *device_kernels_for(scales.device());
  at::Tensor out =
      at::empty({end - begin, matrix.in}, scales.options().dtype(dtype));
  const auto status =
      (device.launch.*launch)(matrix, begin, end, out.mutable_data_ptr(), *type,
                              device.stream(scales.device()));
  return is_queued(status) ? out : at::Tensor();
}

}  // namespace

bool has_device_product(const Weight& weight, std::int64_t rows) {
  if (rows < 1 || rows > kDeviceRows ||
      device_kernels_for(device(weight)) == nullptr)
    return false;
  if (const auto* float8 = std::get_if<Float8Weight>(&weight))
    return has_known_scales(float8->scales) && float8->values.is_contiguous();
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  return w != nullptr && !w->interleaved && has_known_scales(w->scales) &&
         has_fast_groups(*w);
}

DeviceRows round_rows_on_device(const at::Tensor& x,
                                const ActivationScheme& scheme,
                                at::ScalarType kept) {
  AUTOGLM_ENSURE(kept == at::kChar || kept == at::kBFloat16);
  const DeviceKernels* device = device_kernels_for(x.device());
  const auto type = number_type(x.scalar_type());
  if (device == nullptr || !type) return {};
  const at::Tensor from = x.contiguous();
  const std::int64_t size = x.size(-1);
  DeviceRows out = {
      at::empty(x.sizes(), x.options().dtype(kept)),
      at::empty({x.numel() / size}, x.options().dtype(at::kFloat))};
  at::Tensor given;
  if (!scheme.dynamic()) given = scheme.scale.to(at::kFloat).contiguous();
  cuda::RoundArguments a = {};
  a.x = from.const_data_ptr();
  a.type = *type;
  a.given = static_cast<const float*>(data_of(given));
  if (kept == at::kChar)
    a.codes = out.values.mutable_data_ptr<std::int8_t>();
  else
    a.numbers = static_cast<std::uint16_t*>(out.values.mutable_data_ptr());
  a.steps = out.steps.mutable_data_ptr<float>();
  a.rows = out.steps.numel();
  a.size = size;
  return is_queued(device->launch.round_to_int8(a, device->stream(x.device())))
             ? out
             : DeviceRows{};
}

at::Tensor device_product(const DeviceRows& x, const Weight& weight,
                          const at::Tensor& bias, at::ScalarType dtype) {
  if (!x.values.defined()) return {};
  const DeviceKernels* device = device_kernels_for(x.values.device());
  const auto x_type = number_type(x.values.scalar_type());
  const auto y_type = number_type(dtype);
  if (device == nullptr || !x_type || !y_type) return {};
  const at::Tensor flat = x.values.reshape({-1, columns(weight)}).contiguous();
  const at::Tensor own_bias = bias.defined() ? bias.contiguous() : bias;
  at::Tensor y =
      at::empty({flat.size(0), rows(weight)}, flat.options().dtype(dtype));
  cuda::LinearArguments a = {};
  a.x = flat.const_data_ptr();
  a.x_type = *x_type;
  a.row_steps = static_cast<const float*>(data_of(x.steps));
  a.bias = data_of(own_bias);
  a.bias_type = *y_type;
  a.y = y.mutable_data_ptr();
  a.y_type = *y_type;
  a.rows = flat.size(0);
  const auto run = [&](auto&& workspace_bytes, auto&& launch,
                       const auto& matrix) {
    const at::Tensor workspace =
        workspace_like(flat, workspace_bytes(matrix, *x_type, a.rows));
    a.workspace = workspace.defined() ? workspace.mutable_data_ptr() : nullptr;
    return is_queued(launch(matrix, a, device->stream(flat.device())));
  };
  const auto* float8 = std::get_if<Float8Weight>(&weight);
  const bool queued =
      float8 != nullptr
          ? run(device->launch.float8_workspace, device->launch.float8_linear,
                float8_view(*float8))
          : run(device->launch.packed_workspace, device->launch.packed_linear,
                packed_view(std::get<QuantizedWeight>(weight)));
  if (!queued) return {};
  auto shape = x.values.sizes().vec();
  shape.back() = rows(weight);
  return y.view(shape);
}

at::Tensor dequantize_on_device(const QuantizedWeight& weight,
                                std::int64_t begin, std::int64_t end,
                                at::ScalarType dtype) {
  if (device_kernels_for(weight.codes.device()) == nullptr ||
      !has_known_scales(weight.scales))
    return {};
  return unpack(weight.scales, packed_view(weight),
                &cuda::Launchers::unpack_packed, begin, end, dtype);
}

at::Tensor dequantize_on_device(const Float8Weight& weight, std::int64_t begin,
                                std::int64_t end, at::ScalarType dtype) {
  if (device_kernels_for(weight.values.device()) == nullptr ||
      !has_known_scales(weight.scales) || !weight.values.is_contiguous())
    return {};
  return unpack(weight.scales, float8_view(weight),
                &cuda::Launchers::unpack_float8, begin, end, dtype);
}

}  // namespace autoglm
