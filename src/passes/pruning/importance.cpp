#include "passes/pruning/importance.h"

#include <map>
#include <string>

#include "autoglm/model/block_parts.h"
#include "passes/pruning/coupled_rows.h"

namespace autoglm {
namespace {

at::Tensor wide(const Linear& linear) {
  return to_dense(linear.weight, at::kFloat);
}

// Of the input columns of a matrix, [in].
at::Tensor column_scores(const Linear& linear, const Moments& inputs) {
  return wide(linear).norm(2, 0) *
         (inputs.compressed.diagonal() / inputs.tokens).sqrt();
}

at::Tensor head_l1(const Architecture& a, const Block& block) {
  const at::Tensor output = wide(block.attention.output).abs().sum(0);
  at::Tensor scores = output.view({-1, a.value_size}).sum(-1);
  Block names = block;                     // find_linear wants to write
  std::map<std::string, at::Tensor> sums;  // of each row of a matrix
  for (std::int64_t h = 0; h < scores.size(0); ++h) {
    const at::Tensor head = at::full({1}, h, scores.options().dtype(at::kLong));
    for (const Rows& part : head_rows(a, block, head)) {
      at::Tensor& sum = sums[part.name];
      if (!sum.defined())
        sum = wide(*find_linear(names, part.name)).abs().sum(1);
      scores[h] += sum.index_select(0, part.rows).sum();
    }
  }
  return scores;
}

at::Tensor channel_l1(const Mlp& mlp) {
  at::Tensor scores = wide(mlp.down).abs().sum(0);
  // Gate rows and up rows of one matrix lie one behind the other.
  for (const Linear* inner : {&mlp.gate_up, &mlp.gate, &mlp.up})
    if (inner->present())
      scores =
          scores + wide(*inner).abs().sum(1).view({-1, scores.size(0)}).sum(0);
  return scores;
}

}  // namespace

at::Tensor head_scores(const Architecture& a, const Block& block,
                       const Moments* inputs) {
  if (inputs == nullptr) return head_l1(a, block);
  return column_scores(block.attention.output, *inputs)
      .square()
      .view({-1, a.value_size})
      .sum(-1);
}

at::Tensor channel_scores(const Mlp& mlp, const Moments* inputs) {
  return inputs == nullptr ? channel_l1(mlp) : column_scores(mlp.down, *inputs);
}

at::Tensor largest(const at::Tensor& scores, std::int64_t count) {
  const at::Tensor order = std::get<1>(
      at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  return std::get<0>(at::sort(order.narrow(0, 0, count)));
}

}  // namespace autoglm
