#include "passes/quantization/gptq.h"

namespace autoglm {

Rounded round_with_feedback(const at::Tensor& weight, const GridFit& fit,
                            const Grid& grid, const Feedback& feedback) {
  constexpr std::int64_t kBlock = 128;
  const auto levels = static_cast<double>(grid.levels());
  const at::Tensor groups =
      at::div(feedback.order, grid.group_size, "floor").to(at::kCPU);
  const std::int64_t* group = groups.const_data_ptr<std::int64_t>();
  // Columns as rows: everything below works on contiguous memory.
  at::Tensor rest = weight.t().index_select(0, feedback.order).contiguous();
  const at::Tensor scales = fit.scales.t().contiguous();
  const at::Tensor zeros = fit.zeros.t().contiguous();
  at::Tensor codes = at::empty_like(rest), positions = at::empty_like(rest);
  feed_back(rest, feedback, kBlock, [&](std::int64_t k, at::Tensor& error) {
    const at::Tensor scale = scales[group[k]], zero = zeros[group[k]];
    const at::Tensor column = rest[k];
    at::Tensor position = positions[k], code = codes[k];
    at::div_out(position, column, scale).add_(zero);
    at::round_out(code, position).clamp_(0, levels);
    at::sub_out(error, column, (code - zero) * scale);
  });
  const at::Tensor back = feedback.order.argsort();
  const auto as_given = [&](const at::Tensor& columns) {
    return columns.index_select(0, back).t().contiguous();
  };
  return {as_given(codes), fit, as_given(positions)};
}

}  // namespace autoglm
