// Units of a model that training may take away: FFN channels, query heads, or
// whole groups of heads with their key and value; and which slices of which
// tensors they are.
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

}  // namespace autoglm
