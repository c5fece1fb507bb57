#include "passes/distillation/unit_parts.h"

#include <map>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/options.h"

namespace autoglm {
namespace {

// Adds slices of a matrix, and of its bias where they are rows.
void add_slices(const Block& block, const std::string& name, std::int64_t dim,
                const at::Tensor& index, const at::Tensor& unit,
                UnitPart& part) {
  if (index.size(0) == 0) return;
  Block names = block;  // find_linear wants to write
  const Linear& linear = *find_linear(names, name);
  if (!std::holds_alternative<DenseWeight>(linear.weight))
    fail(ErrorKind::kConfig,
         fmt::format("distillation: layers.{}.{} is quantized and cannot be "
                     "pruned; put distillation before quantization",
                     part.layer, name));
  part.slices.push_back({name, false, dim, index, unit});
  part.parameters +=
      index.size(0) * (dim == 0 ? columns(linear.weight) : rows(linear.weight));
  if (dim != 0 || !linear.bias.defined()) return;
  part.slices.push_back({name, true, 0, index, unit});
  part.parameters += index.size(0);
}

UnitPart channels_of(const Block& block, std::size_t layer,
                     const DistillationOptions& options) {
  UnitPart out;
  out.layer = layer;
  out.reader = "mlp.down";
  out.units = columns(block.mlp.down.weight);
  const at::Tensor all = at::arange(
      out.units,
      at::TensorOptions(at::kLong).device(device(block.mlp.down.weight)));
  if (block.mlp.gate_up.present())
    add_slices(block, "mlp.gate_up", 0, at::cat({all, all + out.units}),
               at::cat({all, all}), out);
  for (const char* name : {"mlp.gate", "mlp.up"}) {
    Block names = block;
    if (find_linear(names, name)->present())
      add_slices(block, name, 0, all, all, out);
  }
  add_slices(block, out.reader, 1, all, all, out);
  out.parameters /= out.units;
  const std::int64_t step = ffn_alignment(out.units, options.align);
  out.widths = {out.units};
  for (std::int64_t w = (out.units - 1) / step * step; w > 0; w -= step)
    out.widths.push_back(w);
  return out;
}

UnitPart heads_of(const Architecture& a, const Block& block, std::size_t layer,
                  const DistillationOptions& options) {
  const BlockWidths w = widths(a, block);
  const bool own_keys = w.query_heads == w.kv_heads;
  UnitPart out;
  out.layer = layer;
  out.part = BlockPart::kAttention;
  out.reader = "attention.output";
  if (options.kv_groups && !own_keys) out.heads = w.query_heads / w.kv_heads;
  if (!options.kv_groups && !own_keys) out.sets = w.kv_heads;
  out.units = w.query_heads / out.heads;
  out.columns = out.heads * a.value_size;
  const auto where = at::TensorOptions(at::kLong).device(
      device(block.attention.output.weight));
  std::map<std::string, std::pair<std::vector<at::Tensor>,
                                  std::vector<at::Tensor>>>
      rows;  // of each matrix: which, and whose
  for (std::int64_t u = 0; u < out.units; ++u) {
    const at::Tensor heads =
        at::arange(u * out.heads, (u + 1) * out.heads, where);
    // Keys and values that stay belong to no head.
    const at::Tensor groups =
        out.heads > 1 ? at::full({1}, u, where) : at::empty({0}, where);
    for (const Rows& own : head_rows(a, block, heads, groups)) {
      rows[own.name].first.push_back(own.rows);
      rows[own.name].second.push_back(at::full_like(own.rows, u));
    }
  }
  for (const auto& [name, both] : rows)
    add_slices(block, name, 0, at::cat(both.first), at::cat(both.second), out);
  add_slices(block, out.reader, 1, at::arange(out.units * out.columns, where),
             at::arange(out.units, where)
                 .unsqueeze(1)
                 .expand({out.units, out.columns})
                 .flatten(),
             out);
  out.parameters /= out.units;
  for (std::int64_t left = out.units; left > 0; left -= out.sets)
    out.widths.push_back(left);
  return out;
}

void check_sparsity(const std::vector<UnitPart>& parts, double sparsity) {
  double all = 0, stays = 0;
  for (const UnitPart& part : parts) {
    const auto each = static_cast<double>(part.parameters);
    all += each * static_cast<double>(part.units);
    stays += each * static_cast<double>(part.widths.back());
  }
  if (stays >= all)
    fail(ErrorKind::kConfig,
         "distillation: no part has a width below the one it has; lower align "
         "or mask heads too");
  if (sparsity > 1 - stays / all)
    fail(
        ErrorKind::kConfig,
        fmt::format("distillation: sparsity {} leaves nothing of some layers; "
                    "at their least widths ({} of {} in layers.{}.{}) {:.3f} "
                    "has gone",
                    sparsity, parts[0].widths.back(), parts[0].units,
                    parts[0].layer, part_name(parts[0].part), 1 - stays / all));
}

}  // namespace

std::vector<UnitPart> find_units(const Model& model,
                                 const DistillationOptions& options) {
  std::vector<UnitPart> out;
  bool mixtures = false;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Block& block = model.blocks[i];
    if ((options.heads || options.kv_groups) && block.has_attention())
      out.push_back(heads_of(model.architecture, block, i, options));
    mixtures = mixtures || block.is_mixture();
    if (options.ffn && block.mlp.down.present())
      out.push_back(channels_of(block, i, options));
  }
  if (out.empty())
    fail(ErrorKind::kConfig,
         mixtures ? "distillation: nothing to prune: the channels of experts "
                    "stay; structured_pruning cuts them, heads: true masks "
                    "heads"
                  : "distillation: nothing to prune: ffn, heads and kv_groups "
                    "are false or the layers have no such part");
  check_sparsity(out, options.sparsity);
  return out;
}

BlockWidths widths_with(const UnitPart& part, BlockWidths from,
                        std::int64_t count) {
  if (part.part == BlockPart::kMlp) {
    from.ffn = count;
    return from;
  }
  const bool keys = part.heads > 1 || from.query_heads == from.kv_heads;
  from.query_heads = count * part.heads;
  if (keys) from.kv_heads = count;
  return from;
}

}  // namespace autoglm
