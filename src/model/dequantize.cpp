#include "model/dequantize.h"

#include <ATen/Parallel.h>

#include <array>

#include "autoglm/core/error.h"
#include "model/device_products.h"
#include "model/integer_product.h"

namespace autoglm {
namespace {

// Codes as int32 [rows, in] on any device, by shifts.
at::Tensor shift_codes(const at::Tensor& words, std::int64_t in, int bits) {
  const at::Tensor position =
      at::arange(in, at::TensorOptions(at::kLong).device(words.device())) *
      bits;
  const at::Tensor word = at::div(position, 32, "floor");
  const at::Tensor shift = position - word * 32;
  const at::Tensor wide = at::bitwise_and(words.to(at::kLong), 0xFFFFFFFFll);
  at::Tensor value =
      at::bitwise_right_shift(wide.index_select(1, word), shift.unsqueeze(0));
  // A code that crosses a word border takes its high bits from the next word.
  const at::Tensor next = at::clamp_max(word + 1, words.size(1) - 1);
  const at::Tensor spill = at::bitwise_left_shift(wide.index_select(1, next),
                                                  (32 - shift).unsqueeze(0));
  value = at::bitwise_or(value, spill);
  return at::bitwise_and(value, (1 << bits) - 1).to(at::kInt);
}

// All e4m3 numbers by their bytes.
const std::array<float, 256>& float8_table() {
  static const std::array<float, 256> table = [] {
    const at::Tensor values = at::arange(256, at::kInt)
                                  .to(at::kByte)
                                  .view(at::kFloat8_e4m3fn)
                                  .to(at::kFloat);
    std::array<float, 256> out{};
    std::copy_n(values.const_data_ptr<float>(), out.size(), out.begin());
    return out;
  }();
  return table;
}

}  // namespace

kernels::ScaleType scale_type(const QuantizedWeight& w) {
  switch (w.scales.scalar_type()) {
    case at::kBFloat16:
      return kernels::ScaleType::kBFloat16;
    case at::kHalf:
      return kernels::ScaleType::kFloat16;
    default:
      AUTOGLM_ENSURE(w.scales.scalar_type() == at::kFloat);
      return kernels::ScaleType::kFloat32;
  }
}

kernels::PackedMatrix packed_view(const QuantizedWeight& w) {
  AUTOGLM_ENSURE(!w.interleaved);
  kernels::PackedMatrix view;
  view.codes = reinterpret_cast<const std::uint32_t*>(
      w.codes.const_data_ptr<std::int32_t>());
  view.scales = w.scales.const_data_ptr();
  view.scale_type = scale_type(w);
  view.zeros =
      w.zeros.defined() ? w.zeros.const_data_ptr<std::uint8_t>() : nullptr;
  view.out = w.out;
  view.in = w.in;
  view.group_size = w.group_size;
  view.bits = w.bits;
  return view;
}

at::Tensor dequantize_rows(const QuantizedWeight& w, std::int64_t begin,
                           std::int64_t end, at::ScalarType dtype) {
  const std::int64_t count = end - begin;
  if (w.codes.is_meta())
    return at::empty({count, w.in}, at::TensorOptions(dtype).device(at::kMeta));
  if (w.interleaved) return interleaved_rows(w, at::arange(begin, end), dtype);
  if (at::Tensor out = dequantize_on_device(w, begin, end, dtype);
      out.defined())
    return out;
  if (w.codes.is_cpu()) {
    at::Tensor out = at::empty({count, w.in}, at::kFloat);
    const kernels::PackedMatrix view = packed_view(w);
    float* data = out.data_ptr<float>();
    at::parallel_for(0, count, 16, [&](std::int64_t from, std::int64_t to) {
      kernels::unpack_rows(view, begin + from, begin + to, data + from * w.in);
    });
    return out.to(dtype);
  }
  at::Tensor codes = shift_codes(w.codes.narrow(0, begin, count), w.in, w.bits)
                         .view({count, w.groups(), w.group_size})
                         .to(at::kFloat);
  const at::Tensor scales = w.scales.narrow(0, begin, count).to(at::kFloat);
  if (w.zeros.defined())
    codes =
        codes - w.zeros.narrow(0, begin, count).to(at::kFloat).unsqueeze(-1);
  else
    codes = codes - static_cast<double>(1 << (w.bits - 1));
  return (codes * scales.unsqueeze(-1)).view({count, w.in}).to(dtype);
}

at::Tensor float8_values(const at::Tensor& values) {
  if (!values.is_cpu()) return values.to(at::kFloat);
  const at::Tensor from = values.contiguous();
  at::Tensor out = at::empty(from.sizes(), at::kFloat);
  const auto* in = static_cast<const std::uint8_t*>(from.const_data_ptr());
  float* to = out.data_ptr<float>();
  const std::array<float, 256>& table = float8_table();
  at::parallel_for(0, from.numel(), 1 << 15,
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i)
                       to[i] = table[in[i]];
                   });
  return out;
}

at::Tensor dequantize_rows(const Float8Weight& w, std::int64_t begin,
                           std::int64_t end, at::ScalarType dtype) {
  if (at::Tensor out = dequantize_on_device(w, begin, end, dtype);
      out.defined())
    return out;
  at::Tensor out = float8_values(w.values.narrow(0, begin, end - begin));
  return out.mul_(w.scales.narrow(0, begin, end - begin).to(at::kFloat))
      .to(dtype);
}

}  // namespace autoglm
