// A matrix in any form times a stream.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <functional>

#include "autoglm/core/error.h"
#include "model/dequantize.h"

namespace autoglm {
namespace {

// Rows of x up to which codes are unpacked in registers; beyond it one
// dequantization is cheaper than repeating the unpacking per row.
constexpr std::int64_t kPackedRows = 16;
// Elements of a weight that are converted to x's dtype at once: bounds the copy
// of a large matrix to a few tens of megabytes.
constexpr std::int64_t kChunkElements = 1 << 24;

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

}  // namespace

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
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  const bool needs_gradient = at::GradMode::is_enabled() && x.requires_grad();
  const std::int64_t count =
      x.numel() / std::max<std::int64_t>(1, columns(weight));
  if (w != nullptr && !needs_gradient && use_packed(*w, count)) {
    const at::Tensor y = packed_apply(x, *w);
    return own_bias.defined() ? y + own_bias : y;
  }
  return chunked_apply(
      x, rows(weight), columns(weight), own_bias,
      [&](std::int64_t begin, std::int64_t end) {
        return w != nullptr ? dequantize_rows(*w, begin, end, x.scalar_type())
                            : dequantize_rows(std::get<Float8Weight>(weight),
                                              begin, end, x.scalar_type());
      });
}

const char* linear_kernel(const Weight& weight, std::int64_t rows) {
  if (std::holds_alternative<DenseWeight>(weight)) return "dense";
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  if (w == nullptr || !use_packed(*w, rows)) return "dequantize + gemm";
  const std::string_view isa = kernels::packed_linear_kernel();
  return isa == "avx512" ? "packed avx512"
         : isa == "avx2" ? "packed avx2"
                         : "packed scalar";
}

}  // namespace autoglm
