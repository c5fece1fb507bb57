#include "passes/pruning/hidden_channels.h"

#include <algorithm>
#include <array>

#include "autoglm/model/block_parts.h"
#include "autoglm/model/depth.h"
#include "passes/pruning/coupled_rows.h"

namespace autoglm {
namespace {

void keep(Weight& weight, std::int64_t dim, const at::Tensor& kept) {
  weight = DenseWeight{pick(std::get<DenseWeight>(weight).value, dim, kept)};
}

void keep(at::Tensor& tensor, std::int64_t dim, const at::Tensor& kept) {
  if (tensor.defined()) tensor = pick(tensor, dim, kept);
}

Block keep_channels(Block block, const at::Tensor& kept) {
  visit_block(
      block,
      [&](const std::string& name, Linear& part) {
        const HiddenRole role = hidden_role(name);
        if (role == HiddenRole::kReads) keep(part.weight, 1, kept);
        if (role != HiddenRole::kWrites) return;
        keep(part.weight, 0, kept);
        keep(part.bias, 0, kept);
      },
      [&](const std::string& name, at::Tensor& values) {
        const HiddenRole role = hidden_role(name);
        if (role == HiddenRole::kReads) keep(values, 1, kept);
        if (role == HiddenRole::kNorm) keep(values, 0, kept);
      });
  return block;
}

}  // namespace

HiddenRole hidden_role(std::string_view name) {
  constexpr std::array<std::string_view, 4> kNorms = {
      "input_norm.", "middle_norm.", "after_attention_norm.",
      "after_mlp_norm."};
  for (const std::string_view norm : kNorms)
    if (name.starts_with(norm)) return HiddenRole::kNorm;
  if (name == "attention.output" || name.ends_with("down"))
    return HiddenRole::kWrites;
  // Norms inside the attention, and what low-rank vectors feed.
  if (name.find("_norm.") != std::string_view::npos ||
      name == "attention.query_b" || name == "attention.key_value_b" ||
      name == "attention.indexer.query.weight" ||
      name == "mlp.router.correction_bias")
    return HiddenRole::kNone;
  return HiddenRole::kReads;
}

Model keep_hidden(Model model, const at::Tensor& kept) {
  const std::int64_t before = model.architecture.hidden;
  keep(model.embedding, 1, kept);
  keep(model.positions, 1, kept);
  keep(model.block_positions, 1, kept);
  for (Block& block : model.blocks) block = keep_channels(block, kept);
  keep(model.final_norm.gain, 0, kept);
  keep(model.final_norm.bias, 0, kept);
  if (model.head) keep(model.head->weight, 1, kept);
  model.architecture.hidden = kept.size(0);
  model = without_next_token_blocks(std::move(model));
  std::erase_if(model.extra, [&](const auto& entry) {
    const at::IntArrayRef sizes = entry.second.sizes();
    return std::find(sizes.begin(), sizes.end(), before) != sizes.end();
  });
  return model;
}

}  // namespace autoglm
