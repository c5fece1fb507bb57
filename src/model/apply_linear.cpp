// A matrix in any form times a stream.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <functional>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/kernels/dense_linear.h"
#include "autoglm/model/dense_product.h"
#include "autoglm/model/model.h"
#include "model/dequantize.h"
#include "model/device_products.h"
#include "model/few_rows.h"
#include "model/int8_product.h"
#include "model/integer_product.h"
#include "model/joined_linears.h"
#include "model/needs_gradient.h"
#include "model/rounded_vectors.h"

namespace autoglm {
namespace {

// Rows of x up to which codes are unpacked in registers; beyond it one
// dequantization is cheaper than repeating the unpacking per row.
constexpr std::int64_t kPackedRows = 16;

enum class Product {
  kDense,
  kFewRows,
  kDevice,
  kPacked,
  kInt8,
  kInteger,
  kDequantize
};

Product product_for(const Weight& weight, std::int64_t rows) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return has_few_rows_product(dense->value, rows) ? Product::kFewRows
                                                    : Product::kDense;
  if (has_device_product(weight, rows)) return Product::kDevice;
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  if (w == nullptr) return Product::kDequantize;
  if (w->interleaved) return Product::kInteger;
  if (w->codes.is_cpu() && rows <= kPackedRows) return Product::kPacked;
  return has_int8_product(*w, rows) ? Product::kInt8 : Product::kDequantize;
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
  const std::int64_t chunk = rows_at_once(in, x.device());
  if (out <= chunk) return dense_product(x, rows(0, out), bias);
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < out; begin += chunk)
    parts.push_back(
        dense_product(x, rows(begin, std::min(out, begin + chunk))));
  const at::Tensor y = at::cat(parts, -1);
  return bias.defined() ? y + bias : y;
}

// x times the matrix in floating point, in x's dtype.
at::Tensor dequantized_apply(const at::Tensor& x, const Weight& weight,
                             const at::Tensor& bias) {
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  return chunked_apply(
      x, rows(weight), columns(weight), bias,
      [&](std::int64_t begin, std::int64_t end) {
        return w != nullptr ? dequantize_rows(*w, begin, end, x.scalar_type())
                            : dequantize_rows(std::get<Float8Weight>(weight),
                                              begin, end, x.scalar_type());
      });
}

// Undefined where the device's kernels do not take x.
at::Tensor device_apply(const at::Tensor& x, const Weight& weight,
                        const ActivationScheme& scheme,
                        const at::Tensor& bias) {
  if (!scheme.quantized)
    return device_product({x, {}}, weight, bias, x.scalar_type());
  if (std::holds_alternative<QuantizedWeight>(weight))
    return device_product(round_rows_on_device(x, scheme, at::kBFloat16),
                          weight, bias, x.scalar_type());
  // Numbers of e4m3 are numbers of bf16.
  const RoundedVectors vectors = round_vectors(x, scheme, /*float8=*/true);
  const std::int64_t count = x.numel() / x.size(-1);
  return device_product({vectors.values.to(at::kBFloat16),
                         vectors.steps.expand({count, 1}).contiguous()},
                        weight, bias, x.scalar_type());
}

// By the kernel of x's device where it has one.
RoundedVectors round_to_int8(const at::Tensor& x,
                             const ActivationScheme& scheme) {
  if (!needs_gradient(scheme.scale)) {
    const DeviceRows rows = round_rows_on_device(x, scheme, at::kChar);
    auto shape = x.sizes().vec();
    shape.back() = 1;
    if (rows.values.defined()) return {rows.values, rows.steps.view(shape)};
  }
  return round_vectors(x, scheme, /*float8=*/false);
}

const char* device_kernel(const Weight& weight) {
  const bool rounded = activations(weight).quantized;
  if (std::holds_alternative<Float8Weight>(weight))
    return rounded ? "cuda fp8 x fp8" : "cuda fp8";
  return rounded ? "cuda int8 x int8" : "cuda packed";
}

at::Tensor matching(const at::Tensor& tensor, at::ScalarType dtype) {
  return tensor.defined() ? tensor.to(dtype) : tensor;
}

// One for all tokens [out], or one per token.
at::Tensor with_bias(const at::Tensor& y, const at::Tensor& bias) {
  if (!bias.defined()) return y;
  return bias.dim() > 1 ? y + bias.view_as(y) : y + bias;
}

// Null pointer where x is not rounded by the product.
const QuantizedWeight* interleaved_weight(const Linear& linear) {
  const auto* w = std::get_if<QuantizedWeight>(&linear.weight);
  return w != nullptr && w->interleaved ? w : nullptr;
}

}  // namespace

at::Tensor apply_linear(const at::Tensor& x, const Weight& weight,
                        const at::Tensor& bias) {
  const at::Tensor own_bias = matching(bias, x.scalar_type());
  if (own_bias.defined() && own_bias.dim() > 1)
    return with_bias(apply_linear(x, weight, {}), own_bias);
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    const at::Tensor& value = dense->value;
    if (at::Tensor y = few_rows_product(x, value); y.defined())
      return with_bias(y, own_bias);
    if (dense->rounds_inputs && x.scalar_type() == at::kFloat &&
        !needs_gradient(x))
      return with_bias(at::linear(x.to(at::kBFloat16), value).to(at::kFloat),
                       own_bias);
    if (value.scalar_type() == x.scalar_type() || value.is_meta())
      return dense_product(x, value.to(x.scalar_type()), own_bias);
    return chunked_apply(
        x, value.size(0), value.size(1), own_bias,
        [&](std::int64_t begin, std::int64_t end) {
          return value.narrow(0, begin, end - begin).to(x.scalar_type());
        });
  }
  const std::int64_t count =
      x.numel() / std::max<std::int64_t>(1, columns(weight));
  Product product =
      needs_gradient(x) ? Product::kDequantize : product_for(weight, count);
  const ActivationScheme scheme = activations(weight);
  if (product == Product::kDevice) {
    const bool apart = needs_gradient(own_bias);
    const at::Tensor y =
        needs_gradient(scheme.scale)
            ? at::Tensor()
            : device_apply(x, weight, scheme, apart ? at::Tensor() : own_bias);
    if (y.defined()) return apart ? with_bias(y, own_bias) : y;
    product = Product::kDequantize;
  }
  if (!scheme.quantized && product == Product::kDequantize)
    return dequantized_apply(x, weight, own_bias);
  at::Tensor y;
  if (product == Product::kInteger) {
    y = integer_products(x, {&std::get<QuantizedWeight>(weight)})[0];
  } else if (!scheme.quantized) {
    y = packed_apply(x, std::get<QuantizedWeight>(weight));
  } else if (product == Product::kInt8) {
    y = int8_product(round_to_int8(x, scheme),
                     std::get<QuantizedWeight>(weight))
            .to(x.scalar_type());
  } else {
    const auto* w = std::get_if<QuantizedWeight>(&weight);
    const RoundedVectors vectors = round_vectors(x, scheme, w == nullptr);
    if (product == Product::kPacked)
      y = packed_apply(vectors.values, *w) * vectors.steps;
    else
      y = dequantized_apply(vectors.values * vectors.steps, weight, {});
    y = y.to(x.scalar_type());
  }
  return with_bias(y, own_bias);
}

std::vector<at::Tensor> apply_linears(
    const at::Tensor& x, const std::vector<const Linear*>& linears) {
  if (device_kernels_for(x.device()) != nullptr && !needs_gradient(x))
    if (const auto all = joined(linears)) {
      std::vector<std::int64_t> sizes;
      for (const Linear* linear : linears)
        sizes.push_back(rows(linear->weight));
      return apply_linear(x, all->weight, all->bias)
          .split_with_sizes(sizes, -1);
    }
  std::vector<const QuantizedWeight*> weights;
  for (const Linear* linear : linears) {
    const QuantizedWeight* w = interleaved_weight(*linear);
    if (w == nullptr || !round_alike(*w, weights.empty() ? *w : *weights[0]))
      break;
    weights.push_back(w);
  }
  std::vector<at::Tensor> out;
  if (weights.size() < linears.size() || needs_gradient(x)) {
    for (const Linear* linear : linears)
      out.push_back(apply_linear(x, linear->weight, linear->bias));
    return out;
  }
  out = integer_products(x, weights);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = with_bias(out[i], matching(linears[i]->bias, x.scalar_type()));
  return out;
}

std::string linear_kernel(const Weight& weight, std::int64_t rows) {
  switch (product_for(weight, rows)) {
    case Product::kDense:
      return std::get<DenseWeight>(weight).rounds_inputs ? "dense bf16"
                                                         : "dense";
    case Product::kFewRows:
      return fmt::format("{} {}", describe(weight),
                         kernels::dense_linear_kernel());
    case Product::kDevice:
      return device_kernel(weight);
    case Product::kInt8:
      return "int8 gemm";
    case Product::kDequantize:
      return "dequantize + gemm";
    case Product::kInteger:
      return fmt::format("integer {}", kernels::integer_linear_kernel());
    case Product::kPacked:
      return fmt::format("packed {}", kernels::packed_linear_kernel());
  }
  return {};
}

}  // namespace autoglm
