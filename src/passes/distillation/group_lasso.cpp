#include "passes/distillation/group_lasso.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/block_parts.h"

namespace autoglm {
namespace {

at::Tensor& tensor_of(Block& block, const UnitSlices& slices) {
  Linear& linear = *find_linear(block, slices.name);
  return slices.bias ? linear.bias : std::get<DenseWeight>(linear.weight).value;
}

}  // namespace

at::Tensor unit_norms(const Block& block, const UnitPart& part) {
  const at::NoGradGuard no_grad;
  Block names = block;  // find_linear wants to write
  at::Tensor sum;
  for (const UnitSlices& slices : part.slices) {
    at::Tensor energy = tensor_of(names, slices).to(at::kFloat).square();
    if (energy.dim() == 2) energy = energy.sum(1 - slices.dim);
    if (!sum.defined()) sum = at::zeros({part.units}, energy.options());
    sum.index_add_(0, slices.unit, energy.index_select(0, slices.index));
  }
  return sum.sqrt();
}

void scale_slices(at::Tensor& tensor, const UnitSlices& slices,
                  const at::Tensor& factors) {
  const at::NoGradGuard no_grad;
  at::Tensor each = at::ones({tensor.size(slices.dim)},
                             tensor.options().requires_grad(false));
  each.index_copy_(0, slices.index,
                   factors.index_select(0, slices.unit).to(each.scalar_type()));
  tensor.mul_(tensor.dim() == 2 ? each.unsqueeze(1 - slices.dim) : each);
}

void scale_units(Block& block, const UnitPart& part,
                 const at::Tensor& factors) {
  for (const UnitSlices& slices : part.slices)
    scale_slices(tensor_of(block, slices), slices, factors);
}

at::Tensor soft_threshold(const at::Tensor& norms, double threshold) {
  return at::where(norms > 0, (1 - threshold / norms).clamp_min(0), 1.0);
}

}  // namespace autoglm
