#include "passes/distillation/mask_repair.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "autoglm/model/block_parts.h"
#include "autoglm/model/walk.h"
#include "passes/pruning/reader_moments.h"
#include "passes/pruning/repair.h"

namespace autoglm {
namespace {

std::vector<at::Tensor> as_gates(const std::vector<at::Tensor>& masks,
                                 at::Device device) {
  std::vector<at::Tensor> out;
  for (const at::Tensor& mask : masks)
    out.push_back(mask.to(device, at::kFloat));
  return out;
}

// The columns of the reader that belong to the units of `mask`.
at::Tensor columns_of(const UnitPart& part, const at::Tensor& mask,
                      at::Device device) {
  return at::nonzero(mask.to(device).repeat_interleave(part.columns)).flatten();
}

at::Tensor reader_of(const Block& block, const UnitPart& part) {
  Block names = block;  // find_linear wants to write
  return std::get<DenseWeight>(find_linear(names, part.reader)->weight).value;
}

}  // namespace

void repair_readers(const Model& student, const std::vector<UnitPart>& parts,
                    const std::vector<at::Tensor>& before,
                    const std::vector<at::Tensor>& after,
                    const at::Tensor& windows) {
  const at::NoGradGuard no_grad;
  const auto changes = [&](std::size_t p) {
    return !at::equal(before[p], after[p]);
  };
  bool any = false;
  for (std::size_t p = 0; p < parts.size(); ++p) any = any || changes(p);
  if (!any) return;
  const at::Device device = windows.device();
  Model work = masked_model(student, parts, as_gates(before, device));
  const auto one = [&](const BlockVisit& visit) {
    Block block = visit.original;
    for (std::size_t p = 0; p < parts.size(); ++p) {  // attention comes first
      const UnitPart& part = parts[p];
      if (static_cast<std::int64_t>(part.layer) != visit.layer || !changes(p))
        continue;
      const at::Tensor old = reader_of(block, part);
      const SplitMoments moments = reader_moments(
          work, visit, block,
          part.part == BlockPart::kMlp ? Part::kMlp : Part::kAttention, {});
      const at::Tensor kept = columns_of(part, after[p], device);
      const Repair repair =
          repair_columns(old, kept, moments, RepairKind::kLeastSquares, false);
      reader_of(student.blocks[part.layer], part)
          .index_copy_(1, kept, repair.weight);
      find_linear(block, part.reader)->weight =
          DenseWeight{at::zeros_like(old).index_copy(1, kept, repair.weight)};
    }
    return block;
  };
  const std::int64_t batch = std::max<std::int64_t>(1, windows.size(0) / 8);
  walk_blocks(work, work.embedding, windows, batch, one);
}

}  // namespace autoglm
