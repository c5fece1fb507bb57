#include "passes/pruning/coupled_rows.h"

#include "autoglm/model/block_parts.h"

namespace autoglm {
namespace {

// The rows of units that are `size` neighbouring rows each.
at::Tensor rows_of(const at::Tensor& units, std::int64_t size) {
  return (units.unsqueeze(1) * size + at::arange(size, units.options()))
      .flatten();
}

// In the one matrix that makes queries, keys and values.
at::Tensor fused_rows(const Architecture& a, const BlockWidths& w,
                      const at::Tensor& heads, const at::Tensor& groups) {
  const std::int64_t size = a.head_size;
  if (a.qkv == QkvLayout::kPerHead) return rows_of(heads, 3 * size);
  const at::Tensor query = rows_of(heads, size);
  const std::int64_t queries = w.query_heads * size, keys = w.kv_heads * size;
  if (w.query_heads == w.kv_heads)
    return at::cat({query, query + queries, query + queries + keys});
  const at::Tensor key = rows_of(
      groups.defined() ? groups : at::arange(w.kv_heads, heads.options()),
      size);
  return at::cat({query, key + queries, key + queries + keys});
}

void keep_rows(Linear& linear, const at::Tensor& rows) {
  linear.weight =
      DenseWeight{pick(std::get<DenseWeight>(linear.weight).value, 0, rows)};
  if (linear.bias.defined()) linear.bias = pick(linear.bias, 0, rows);
}

}  // namespace

std::vector<Rows> head_rows(const Architecture& a, const Block& block,
                            const at::Tensor& heads, const at::Tensor& groups) {
  const Attention& attention = block.attention;
  const at::Tensor rows = rows_of(heads, a.head_size);
  if (a.is_latent())
    return {
        {attention.query_b.present() ? "attention.query_b" : "attention.query",
         rows},
        {"attention.key_value_b",
         rows_of(heads, a.latent.nope + a.value_size)}};
  const BlockWidths w = widths(a, block);
  if (attention.query_key_value.present())
    return {{"attention.query_key_value", fused_rows(a, w, heads, groups)}};
  if (w.query_heads == w.kv_heads)
    return {{"attention.query", rows},
            {"attention.key", rows},
            {"attention.value", rows}};
  // Groups that all stay are not touched.
  if (!groups.defined() || groups.size(0) == w.kv_heads)
    return {{"attention.query", rows}};
  const at::Tensor shared = rows_of(groups, a.head_size);
  return {{"attention.query", rows},
          {"attention.key", shared},
          {"attention.value", shared}};
}

at::Tensor head_columns(const Architecture& a, const at::Tensor& heads) {
  return rows_of(heads, a.value_size);
}

at::Tensor pick(const at::Tensor& tensor, std::int64_t dim,
                const at::Tensor& kept) {
  // libtorch selects from meta tensors only with Python's help.
  if (tensor.is_meta()) return tensor.narrow(dim, 0, kept.size(0)).contiguous();
  return tensor.index_select(dim, kept).contiguous();
}

void keep_head_rows(const Architecture& a, Block& block,
                    const at::Tensor& heads, const at::Tensor& groups) {
  for (const Rows& part : head_rows(a, block, heads, groups))
    keep_rows(*find_linear(block, part.name), part.rows);
}

void keep_channel_rows(Mlp& mlp, const at::Tensor& channels) {
  if (mlp.gate_up.present())
    keep_rows(mlp.gate_up,
              at::cat({channels, channels + columns(mlp.down.weight)}));
  for (Linear* inner : {&mlp.gate, &mlp.up})
    if (inner->present()) keep_rows(*inner, channels);
}

}  // namespace autoglm
