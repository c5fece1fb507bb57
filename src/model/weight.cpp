#include "autoglm/model/weight.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/kernels/packed_linear.h"
#include "model/dequantize.h"
#include "model/integer_product.h"

namespace autoglm {
namespace {

// Calls change(tensor) for every tensor that holds the weight.
template <class W, class Change>
void visit_tensors(W& weight, Change&& change) {
  const auto defined = [&](auto& tensor) {
    if (tensor.defined()) change(tensor);
  };
  if (auto* dense = std::get_if<DenseWeight>(&weight)) {
    defined(dense->value);
  } else if (auto* float8 = std::get_if<Float8Weight>(&weight)) {
    defined(float8->values);
    defined(float8->scales);
    defined(float8->activations.scale);
  } else {
    auto& w = std::get<QuantizedWeight>(weight);
    defined(w.codes);
    defined(w.scales);
    defined(w.zeros);
    defined(w.activations.scale);
  }
}

// Null pointer: a dense weight.
template <class W>
auto* scheme_of(W& weight) {
  if (auto* float8 = std::get_if<Float8Weight>(&weight))
    return &float8->activations;
  auto* w = std::get_if<QuantizedWeight>(&weight);
  return w != nullptr ? &w->activations : nullptr;
}

// The tensor that holds the matrix itself, row by row.
const at::Tensor& elements(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return dense->value;
  if (const auto* float8 = std::get_if<Float8Weight>(&weight))
    return float8->values;
  return std::get<QuantizedWeight>(weight).codes;
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
  const auto inputs = [](const ActivationScheme& scheme, const char* type) {
    if (!scheme.quantized) return std::string();
    return fmt::format(" with {}{} inputs", scheme.dynamic() ? "" : "static ",
                       type);
  };
  if (const auto* float8 = std::get_if<Float8Weight>(&weight))
    return "fp8 e4m3 channel" + inputs(float8->activations, "fp8");
  const auto& w = std::get<QuantizedWeight>(weight);
  return fmt::format(
      "int{} {} {}{}", w.bits,
      w.group_size == w.in ? "channel" : fmt::format("g{}", w.group_size),
      w.symmetric() ? "symmetric" : "asymmetric",
      inputs(w.activations, "int8"));
}

std::vector<at::Tensor> tensors(const Weight& weight) {
  std::vector<at::Tensor> out;
  visit_tensors(weight, [&](const at::Tensor& part) { out.push_back(part); });
  return out;
}

std::int64_t rows(const Weight& weight) {
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  return w != nullptr ? w->out : elements(weight).size(0);
}

std::int64_t columns(const Weight& weight) {
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  return w != nullptr ? w->in : elements(weight).size(1);
}

std::uint64_t bytes(const Weight& weight) {
  std::uint64_t sum = 0;
  visit_tensors(weight, [&](const at::Tensor& part) { sum += part.nbytes(); });
  return sum;
}

double code_bits(const Weight& weight) {
  if (const auto* w = std::get_if<QuantizedWeight>(&weight)) return w->bits;
  return 8.0 * static_cast<double>(elements(weight).element_size());
}

at::ScalarType dtype(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return dense->value.scalar_type();
  if (const auto* float8 = std::get_if<Float8Weight>(&weight))
    return float8->scales.scalar_type();
  return std::get<QuantizedWeight>(weight).scales.scalar_type();
}

at::Device device(const Weight& weight) { return elements(weight).device(); }

at::Tensor to_dense(const Weight& weight, at::ScalarType dtype) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return dense->value.to(dtype);
  if (const auto* float8 = std::get_if<Float8Weight>(&weight))
    return dequantize_rows(*float8, 0, rows(weight), dtype);
  return dequantize_rows(std::get<QuantizedWeight>(weight), 0, rows(weight),
                         dtype);
}

at::Tensor select_rows(const Weight& weight, const at::Tensor& ids,
                       at::ScalarType dtype) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return at::embedding(dense->value, ids).to(dtype);
  const at::Tensor flat = ids.reshape({-1});
  auto shape = ids.sizes().vec();
  shape.push_back(columns(weight));
  if (const auto* w = std::get_if<QuantizedWeight>(&weight);
      w != nullptr && w->interleaved)
    return interleaved_rows(*w, flat, dtype).view(shape);
  Weight picked = weight;
  *scheme_of(picked) = {};
  visit_tensors(picked,
                [&](at::Tensor& part) { part = part.index_select(0, flat); });
  if (auto* w = std::get_if<QuantizedWeight>(&picked)) w->out = flat.size(0);
  return to_dense(picked, dtype).view(shape);
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
  AUTOGLM_ENSURE(!weight.interleaved);
  const at::Tensor words = weight.codes.to(at::kCPU).contiguous();
  at::Tensor codes = at::empty({weight.out, weight.in}, at::kByte);
  kernels::unpack_codes(reinterpret_cast<const std::uint32_t*>(
                            words.const_data_ptr<std::int32_t>()),
                        weight.out, weight.in, weight.bits,
                        codes.data_ptr<std::uint8_t>());
  return codes.to(weight.codes.device());
}

Float8Weight round_float8(const at::Tensor& weight,
                          at::ScalarType scale_dtype) {
  AUTOGLM_ENSURE(weight.dim() == 2 && at::isFloatingType(scale_dtype));
  const at::Tensor wide = weight.detach().to(at::kFloat);
  const at::Tensor step =
      (wide.abs().amax(1, /*keepdim=*/true) / kFloat8Max).to(scale_dtype);
  // Also a row too small for the type of the scale is a row of zeros.
  const at::Tensor scales =
      at::where(step == 0, at::ones_like(step), step).contiguous();
  // A scale that was rounded down leaves its row's largest element beyond the
  // range, where the conversion would give NaN.
  const at::Tensor values =
      at::clamp(wide / scales.to(at::kFloat), -kFloat8Max, kFloat8Max);
  return {values.to(at::kFloat8_e4m3fn).contiguous(), scales};
}

ActivationScheme activations(const Weight& weight) {
  const ActivationScheme* scheme = scheme_of(weight);
  return scheme != nullptr ? *scheme : ActivationScheme{};
}

bool takes_activations(const Weight& weight) {
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  return w != nullptr ? w->bits == 8 && w->group_size == w->in && w->symmetric()
                      : std::holds_alternative<Float8Weight>(weight);
}

Weight with_activations(const Weight& weight, const at::Tensor& scale) {
  if (!takes_activations(weight))
    fail(ErrorKind::kConfig,
         fmt::format("a weight that is {} cannot have rounded activations; fp8 "
                     "and symmetric int8 with one scale per row can",
                     describe(weight)));
  AUTOGLM_ENSURE(!scale.defined() || scale.numel() == 1);
  Weight out = weight;
  *scheme_of(out) = {true, scale.defined() ? scale.view({1}) : scale};
  return out;
}

Weight to_device(const Weight& weight, at::Device target) {
  Weight out = weight;
  visit_tensors(out, [&](at::Tensor& part) { part = part.to(target); });
  return out;
}

}  // namespace autoglm
