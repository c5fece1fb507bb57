// Units of a model that training may take away: FFN channels, query heads, or
// whole groups of heads with their key and value. A unit is masked by a gate of
// 0 before the columns that read it, so its weights stay, get no gradient, and
// may come back; the gate's own gradient says what switching it would do.
//
// Channels of routed and shared experts are not among them: few tokens of a
// step reach an expert, too few to judge its channels by.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "autoglm/model/depth.h"
#include "autoglm/model/model.h"
#include "passes/distillation/options.h"

namespace autoglm {

/// Slices of one tensor that belong to units.
struct UnitSlices {
  std::string name;   // of the matrix, below the block
  bool bias = false;  // of its bias
  std::int64_t dim = 0;
  at::Tensor index;  // int64 [n], along dim
  at::Tensor unit;   // int64 [n], whose they are
};

/// The units of one part of a block, on the device of the block.
struct UnitPart {
  std::size_t layer = 0;
  BlockPart part = BlockPart::kMlp;
  std::string reader;           // the matrix whose columns read them
  std::int64_t units = 0;       // all
  std::int64_t sets = 1;        // equal runs of units that each keep as many
  std::int64_t heads = 1;       // query heads per unit
  std::int64_t columns = 1;     // of the reader, per unit
  std::int64_t parameters = 0;  // per unit
  std::vector<UnitSlices> slices;
  std::vector<std::int64_t> widths;  // how many may stay, the most first
};

/// What `options` allow to be masked in `model` (meta tensors do). Throws
/// kConfig if that is nothing, if a matrix of a unit is quantized, or if
/// sparsity asks for more than can go.
std::vector<UnitPart> find_units(const Model& model,
                                 const DistillationOptions& options);

/// `from` with `count` units left of `part`.
BlockWidths widths_with(const UnitPart& part, BlockWidths from,
                        std::int64_t count);

/// gates: fp32 [units] per part, with a gradient or without. Everything else is
/// shared with `model`, whose readers are dense.
Model masked_model(const Model& model, const std::vector<UnitPart>& parts,
                   const std::vector<at::Tensor>& gates);

/// `model` without the units whose mask (bool [units] per part) is false: the
/// same function as masked_model().
Model cut_model(Model model, const std::vector<UnitPart>& parts,
                const std::vector<at::Tensor>& masks);

struct MaskChange {
  at::Tensor mask;  // bool [units], CPU
  std::int64_t regrown = 0;
};

/// The mask after `mask` with exactly `kept` units, as many in each set: at
/// most `share` of the masked ones, and no more than half of those that stay,
/// come back, best `growth` above 0 first; of those that were there the most
/// important fill the rest. mask: bool; importance, growth: [units], any
/// floating dtype, CPU; kept: a multiple of sets, at most what is on. Of equals
/// the first stays.
MaskChange next_mask(const UnitPart& part, const at::Tensor& mask,
                     const at::Tensor& importance, const at::Tensor& growth,
                     std::int64_t kept, double share);

/// What masking loses, by the number of units that stay, from all of `mask`
/// (entry [on]) down to `sets` of them: sums of the least `importance` of every
/// set. Entries that do not occur are 0. CPU tensors.
std::vector<double> masking_losses(const UnitPart& part, const at::Tensor& mask,
                                   const at::Tensor& importance);

}  // namespace autoglm
