// What a block is to lose, and its shapes after that.
#pragma once

#include <cstddef>
#include <cstdint>

#include "autoglm/model/model.h"

namespace autoglm {

enum class Part { kAttention, kMlp };

/// What becomes of a block. Matrices that this cuts must be dense; whole
/// experts may be in any form.
struct PruningTarget {
  bool heads = false, ffn = false;  // what is cut
  BlockWidths widths = {};          // what it has then
  bool experts = false;             // whole routed experts go as well

  bool cuts(Part part) const { return part == Part::kAttention ? heads : ffn; }
};

/// Cuts by shape alone: the first heads, channels and experts stay. For plans.
void narrow_block(const Architecture& architecture, Block& block,
                  const PruningTarget& target);

/// Parameters of a block of `shapes` (meta tensors do) cut to `target`.
std::uint64_t parameters_at(const Model& shapes, std::size_t layer,
                            const PruningTarget& target);

/// A target that differs from what block `layer` is only in `part`.
PruningTarget part_target(const Model& model, std::size_t layer, Part part,
                          const BlockWidths& to);

}  // namespace autoglm
