#include "passes/pruning/pruning_target.h"

#include "autoglm/model/block_parts.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/experts.h"
#include "passes/pruning/repair.h"

namespace autoglm {
namespace {

void cut_columns(Linear& linear, const at::Tensor& kept) {
  keep_columns(linear, kept, nullptr, RepairKind::kNone, false);
}

}  // namespace

void narrow_block(const Architecture& a, Block& block,
                  const PruningTarget& target) {
  const auto first = [](const Linear& beside, std::int64_t count) {
    return at::arange(
        count, at::TensorOptions(at::kLong).device(device(beside.weight)));
  };
  if (target.heads) {
    const Linear& output = block.attention.output;
    const at::Tensor heads = first(output, target.widths.query_heads);
    keep_head_rows(a, block, heads, first(output, target.widths.kv_heads));
    cut_columns(block.attention.output, head_columns(a, heads));
  }
  if (target.experts)
    block = keep_experts(block, at::arange(target.widths.experts, at::kLong));
  if (!target.ffn) return;
  const auto narrow = [&](Mlp& mlp, std::int64_t width) {
    if (!mlp.down.present()) return;
    const at::Tensor kept = first(mlp.down, width);
    keep_channel_rows(mlp, kept);
    cut_columns(mlp.down, kept);
  };
  if (!block.is_mixture()) return narrow(block.mlp, target.widths.ffn);
  for (Mlp& expert : block.mixture.experts) narrow(expert, target.widths.ffn);
  narrow(block.mixture.shared, target.widths.shared_ffn);
}

std::uint64_t parameters_at(const Model& shapes, std::size_t layer,
                            const PruningTarget& target) {
  Block block = shapes.blocks[layer];
  narrow_block(shapes.architecture, block, target);
  std::int64_t count = 0;
  visit_block(
      block,
      [&](const std::string&, const Linear& part) {
        count += rows(part.weight) * columns(part.weight);
        if (part.bias.defined()) count += part.bias.numel();
      },
      [&](const std::string&, const at::Tensor& values) {
        count += values.numel();
      });
  return static_cast<std::uint64_t>(count);
}

PruningTarget part_target(const Model& model, std::size_t layer, Part part,
                          const BlockWidths& to) {
  PruningTarget out = {false, false, to};
  const bool changes = !(to == model.architecture.blocks[layer]);
  (part == Part::kAttention ? out.heads : out.ffn) = changes;
  return out;
}

}  // namespace autoglm
