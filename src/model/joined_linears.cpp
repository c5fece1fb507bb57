#include "model/joined_linears.h"

#include <cstddef>

namespace autoglm {
namespace {

const QuantizedWeight* packed(const Linear& linear) {
  const auto* w = std::get_if<QuantizedWeight>(&linear.weight);
  return w != nullptr && !w->interleaved ? w : nullptr;
}

bool are_alike(const Linear& first, const Linear& other) {
  const QuantizedWeight *a = packed(first), *b = packed(other);
  return a != nullptr && b != nullptr && a->in == b->in && a->bits == b->bits &&
         a->group_size == b->group_size && a->symmetric() == b->symmetric() &&
         a->scales.scalar_type() == b->scales.scalar_type() &&
         a->activations.quantized == b->activations.quantized &&
         a->activations.dynamic() && b->activations.dynamic() &&
         first.bias.defined() == other.bias.defined() &&
         !other.bias.requires_grad() &&
         (!first.bias.defined() ||
          first.bias.scalar_type() == other.bias.scalar_type());
}

template <class Pointers>
bool are_alike(const Pointers& linears) {
  for (const Linear* linear : linears)
    if (!are_alike(*linears.front(), *linear)) return false;
  return linears.size() > 1;
}

// The tensors of a linear that have a row for each of its outputs.
template <class AnyLinear>
auto row_tensors(AnyLinear& linear) {
  auto& w = std::get<QuantizedWeight>(linear.weight);
  return std::vector{&w.codes, &w.scales, &w.zeros, &linear.bias};
}

const std::byte* end_of(const at::Tensor& rows) {
  return static_cast<const std::byte*>(rows.const_data_ptr()) + rows.nbytes();
}

// `a` and, behind it in the same memory, `b`; or none of them.
bool follows(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined()) return !b.defined();
  return a.is_contiguous() && b.is_contiguous() && a.is_alias_of(b) &&
         end_of(a) == b.const_data_ptr();
}

}  // namespace

void join(const std::vector<Linear*>& linears) {
  if (!are_alike(linears)) return;
  for (std::size_t part = 0; part < row_tensors(*linears[0]).size(); ++part) {
    if (!row_tensors(*linears[0])[part]->defined()) continue;
    std::vector<at::Tensor> rows;
    for (Linear* linear : linears) rows.push_back(*row_tensors(*linear)[part]);
    const at::Tensor all = at::cat(rows);
    std::int64_t begin = 0;
    for (Linear* linear : linears) {
      at::Tensor& own = *row_tensors(*linear)[part];
      const std::int64_t count = own.size(0);
      own = all.narrow(0, begin, count);
      begin += count;
    }
  }
}

std::optional<Linear> joined(const std::vector<const Linear*>& linears) {
  if (!are_alike(linears)) return {};
  Linear all = *linears[0];
  auto& w = std::get<QuantizedWeight>(all.weight);
  for (std::size_t i = 1; i < linears.size(); ++i) {
    const auto before = row_tensors(*linears[i - 1]);
    const auto own = row_tensors(*linears[i]);
    for (std::size_t part = 0; part < own.size(); ++part)
      if (!follows(*before[part], *own[part])) return {};
    w.out += packed(*linears[i])->out;
  }
  for (at::Tensor* rows : row_tensors(all)) {
    if (!rows->defined()) continue;
    auto shape = rows->sizes().vec();
    shape[0] = w.out;
    *rows = rows->as_strided(shape, rows->strides());
  }
  return all;
}

}  // namespace autoglm
