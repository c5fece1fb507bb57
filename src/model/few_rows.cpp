#include "model/few_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "autoglm/kernels/dense_linear.h"
#include "model/device_calls.h"
#include "model/needs_gradient.h"

namespace autoglm {
namespace {

constexpr std::int64_t kFewRows = 8;
// Multiply-adds of a task: fewer do not make up for waking a thread.
constexpr std::int64_t kGrainWork = 1 << 17;

}  // namespace

bool has_few_rows_product(const at::Tensor& weight, std::int64_t rows) {
  return rows > 0 && rows <= kFewRows && weight.is_cpu() && weight.dim() == 2 &&
         weight.numel() > 0 && weight.stride(1) == 1 &&
         number_type(weight.scalar_type());
}

at::Tensor few_rows_product(const at::Tensor& x, const at::Tensor& weight) {
  const std::int64_t in = weight.size(-1);
  if (in == 0 || x.dim() == 0 || x.size(-1) != in || !x.is_cpu() ||
      !number_type(x.scalar_type()) ||
      !has_few_rows_product(weight, x.numel() / in) || needs_gradient(x) ||
      needs_gradient(weight))
    return {};
  const at::Tensor flat = x.reshape({-1, in}).to(at::kFloat).contiguous();
  const std::int64_t count = flat.size(0), out = weight.size(0);
  at::Tensor y = at::empty({count, out}, at::kFloat);
  const kernels::DenseMatrix view = {weight.const_data_ptr(),
                                     *number_type(weight.scalar_type()), out,
                                     in, weight.stride(0)};
  const float* from = flat.const_data_ptr<float>();
  float* to = y.data_ptr<float>();
  at::parallel_for(0, out, std::max<std::int64_t>(4, kGrainWork / in),
                   [&](std::int64_t begin, std::int64_t end) {
                     kernels::dense_linear(view, from, count, to, begin, end);
                   });
  auto shape = x.sizes().vec();
  shape.back() = out;
  return y.view(shape).to(x.scalar_type());
}

}  // namespace autoglm
