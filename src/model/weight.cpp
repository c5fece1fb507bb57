#include "autoglm/model/weight.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <functional>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/kernels/packed_linear.h"

namespace autoglm {
namespace {

// Rows of x up to which codes are unpacked in registers; beyond it one
// dequantization is cheaper than repeating the unpacking per row.
constexpr std::int64_t kPackedRows = 16;
// Elements of a weight that are converted to x's dtype at once: bounds the copy
// of a large matrix to a few tens of megabytes.
constexpr std::int64_t kChunkElements = 1 << 24;

kernels::PackedMatrix packed_view(const QuantizedWeight& w) {
  kernels::PackedMatrix view;
  view.codes = reinterpret_cast<const std::uint32_t*>(
      w.codes.const_data_ptr<std::int32_t>());
  view.scales = w.scales.const_data_ptr();
  switch (w.scales.scalar_type()) {
    case at::kBFloat16:
      view.scale_type = kernels::ScaleType::kBFloat16;
      break;
    case at::kHalf:
      view.scale_type = kernels::ScaleType::kFloat16;
      break;
    default:
      AUTOGLM_ENSURE(w.scales.scalar_type() == at::kFloat);
      view.scale_type = kernels::ScaleType::kFloat32;
  }
  view.zeros =
      w.zeros.defined() ? w.zeros.const_data_ptr<std::uint8_t>() : nullptr;
  view.out = w.out;
  view.in = w.in;
  view.group_size = w.group_size;
  view.bits = w.bits;
  return view;
}

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

at::Tensor dequantize_rows(const QuantizedWeight& w, std::int64_t begin,
                           std::int64_t end, at::ScalarType dtype) {
  const std::int64_t count = end - begin;
  if (w.codes.is_meta())
    return at::empty({count, w.in}, at::TensorOptions(dtype).device(at::kMeta));
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

bool use_packed(const QuantizedWeight& w, std::int64_t rows) {
  return rows <= kPackedRows && w.codes.is_cpu();
}

at::Tensor packed_apply(const at::Tensor& x, const QuantizedWeight& w) {
  const at::Tensor flat = x.reshape({-1, w.in}).to(at::kFloat).contiguous();
  at::Tensor y = at::empty({flat.size(0), w.out}, at::kFloat);
  const kernels::PackedMatrix view = packed_view(w);
  const float* in = flat.const_data_ptr<float>();
  float* out = y.data_ptr<float>();
  const std::int64_t m = flat.size(0);
  // A few hundred kilobytes of codes per task: small matrices stay on one
  // thread, where waking others would cost more than the work.
  const std::int64_t grain =
      std::max<std::int64_t>(16, (1 << 17) / std::max<std::int64_t>(1, w.in));
  at::parallel_for(0, w.out, grain, [&](std::int64_t from, std::int64_t to) {
    kernels::packed_linear(view, in, m, out, from, to);
  });
  auto shape = x.sizes().vec();
  shape.back() = w.out;
  return y.view(shape).to(x.scalar_type());
}

// x times the rows of a matrix that `rows` gives in x's dtype, some at a time.
at::Tensor chunked_apply(
    const at::Tensor& x, std::int64_t out, std::int64_t in,
    const at::Tensor& bias,
    const std::function<at::Tensor(std::int64_t, std::int64_t)>& rows) {
  const std::int64_t chunk =
      std::max<std::int64_t>(1, kChunkElements / std::max<std::int64_t>(1, in));
  if (out <= chunk) return at::linear(x, rows(0, out), bias);
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < out; begin += chunk)
    parts.push_back(at::linear(x, rows(begin, std::min(out, begin + chunk))));
  const at::Tensor y = at::cat(parts, -1);
  return bias.defined() ? y + bias : y;
}

at::Tensor matching(const at::Tensor& tensor, at::ScalarType dtype) {
  return tensor.defined() ? tensor.to(dtype) : tensor;
}

const char* dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kBFloat16:
      return "bf16";
    case at::kHalf:
      return "fp16";
    case at::kFloat:
      return "fp32";
    case at::kDouble:
      return "fp64";
    default:
      return c10::toString(dtype);
  }
}

}  // namespace

std::string describe(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return fmt::format("dense {}", dtype_name(dense->value.scalar_type()));
  const auto& w = std::get<QuantizedWeight>(weight);
  return fmt::format(
      "int{} {} {}", w.bits,
      w.group_size == w.in ? "channel" : fmt::format("g{}", w.group_size),
      w.symmetric() ? "symmetric" : "asymmetric");
}

std::int64_t rows(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return dense->value.size(0);
  return std::get<QuantizedWeight>(weight).out;
}

std::int64_t columns(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return dense->value.size(1);
  return std::get<QuantizedWeight>(weight).in;
}

std::uint64_t bytes(const Weight& weight) {
  const auto size = [](const at::Tensor& t) {
    return t.defined() ? static_cast<std::uint64_t>(t.numel()) *
                             static_cast<std::uint64_t>(t.element_size())
                       : 0;
  };
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return size(dense->value);
  const auto& w = std::get<QuantizedWeight>(weight);
  return size(w.codes) + size(w.scales) + size(w.zeros);
}

double code_bits(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return 8.0 * static_cast<double>(dense->value.element_size());
  return std::get<QuantizedWeight>(weight).bits;
}

at::ScalarType dtype(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return dense->value.scalar_type();
  return std::get<QuantizedWeight>(weight).scales.scalar_type();
}

at::Device device(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return dense->value.device();
  return std::get<QuantizedWeight>(weight).codes.device();
}

at::Tensor to_dense(const Weight& weight, at::ScalarType dtype) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return dense->value.to(dtype);
  const auto& w = std::get<QuantizedWeight>(weight);
  return dequantize_rows(w, 0, w.out, dtype);
}

at::Tensor select_rows(const Weight& weight, const at::Tensor& ids,
                       at::ScalarType dtype) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return at::embedding(dense->value, ids).to(dtype);
  const auto& w = std::get<QuantizedWeight>(weight);
  const at::Tensor flat = ids.reshape({-1});
  QuantizedWeight picked = w;
  picked.codes = w.codes.index_select(0, flat);
  picked.scales = w.scales.index_select(0, flat);
  if (w.zeros.defined()) picked.zeros = w.zeros.index_select(0, flat);
  picked.out = flat.size(0);
  auto shape = ids.sizes().vec();
  shape.push_back(w.in);
  return dequantize_rows(picked, 0, picked.out, dtype).view(shape);
}

at::Tensor apply_linear(const at::Tensor& x, const Weight& weight,
                        const at::Tensor& bias) {
  const at::Tensor own_bias = matching(bias, x.scalar_type());
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    const at::Tensor& value = dense->value;
    if (value.scalar_type() == x.scalar_type() || value.is_meta())
      return at::linear(x, value.to(x.scalar_type()), own_bias);
    return chunked_apply(
        x, value.size(0), value.size(1), own_bias,
        [&](std::int64_t begin, std::int64_t end) {
          return value.narrow(0, begin, end - begin).to(x.scalar_type());
        });
  }
  const auto& w = std::get<QuantizedWeight>(weight);
  const bool needs_gradient = at::GradMode::is_enabled() && x.requires_grad();
  const std::int64_t count = x.numel() / std::max<std::int64_t>(1, w.in);
  if (needs_gradient || !use_packed(w, count))
    return chunked_apply(
        x, w.out, w.in, own_bias, [&](std::int64_t begin, std::int64_t end) {
          return dequantize_rows(w, begin, end, x.scalar_type());
        });
  const at::Tensor y = packed_apply(x, w);
  return own_bias.defined() ? y + own_bias : y;
}

const char* linear_kernel(const Weight& weight, std::int64_t rows) {
  if (std::holds_alternative<DenseWeight>(weight)) return "dense";
  if (!use_packed(std::get<QuantizedWeight>(weight), rows))
    return "dequantize + gemm";
  const std::string_view isa = kernels::packed_linear_kernel();
  return isa == "avx512" ? "packed avx512"
         : isa == "avx2" ? "packed avx2"
                         : "packed scalar";
}

QuantizedWeight pack_weight(const at::Tensor& codes, const at::Tensor& scales,
                            const at::Tensor& zeros, int bits,
                            std::int64_t group_size) {
  AUTOGLM_ENSURE(codes.dim() == 2 && codes.scalar_type() == at::kByte);
  AUTOGLM_ENSURE(bits >= 2 && bits <= 8);
  AUTOGLM_ENSURE(group_size > 0 && codes.size(1) % group_size == 0);
  QuantizedWeight w;
  w.out = codes.size(0);
  w.in = codes.size(1);
  w.bits = bits;
  w.group_size = group_size;
  AUTOGLM_ENSURE(scales.dim() == 2 && scales.size(0) == w.out &&
                 scales.size(1) == w.groups());
  const at::Device target = codes.device();
  w.scales = scales.contiguous();
  if (zeros.defined()) {
    AUTOGLM_ENSURE(zeros.sizes() == scales.sizes() &&
                   zeros.scalar_type() == at::kByte);
    w.zeros = zeros.contiguous();
  }
  const std::int64_t words = (w.in * bits + 31) / 32;
  if (codes.is_meta()) {
    w.codes = at::empty({w.out, words},
                        at::TensorOptions(at::kInt).device(at::kMeta));
    return w;
  }
  const at::Tensor plain = codes.to(at::kCPU).contiguous();
  w.codes = at::empty({w.out, words}, at::kInt);
  kernels::pack_rows(
      plain.const_data_ptr<std::uint8_t>(), w.out, w.in, bits,
      reinterpret_cast<std::uint32_t*>(w.codes.data_ptr<std::int32_t>()));
  w.codes = w.codes.to(target);
  return w;
}

at::Tensor unpack_codes(const QuantizedWeight& weight) {
  const at::Tensor words = weight.codes.to(at::kCPU).contiguous();
  at::Tensor codes = at::empty({weight.out, weight.in}, at::kByte);
  kernels::unpack_codes(reinterpret_cast<const std::uint32_t*>(
                            words.const_data_ptr<std::int32_t>()),
                        weight.out, weight.in, weight.bits,
                        codes.data_ptr<std::uint8_t>());
  return codes.to(weight.codes.device());
}

Weight to_device(const Weight& weight, at::Device target) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return DenseWeight{dense->value.to(target)};
  QuantizedWeight w = std::get<QuantizedWeight>(weight);
  w.codes = w.codes.to(target);
  w.scales = w.scales.to(target);
  if (w.zeros.defined()) w.zeros = w.zeros.to(target);
  return w;
}

}  // namespace autoglm
