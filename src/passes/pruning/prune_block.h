// Cutting one block to given widths: query heads, then the channels of its MLP
// or of all its experts, each time repairing the matrix that read what went.
#pragma once

#include "autoglm/core/json.h"
#include "autoglm/model/walk.h"

namespace autoglm {

/// What becomes of a block. Matrices that this cuts must be dense.
struct PruningTarget {
  bool heads = false, ffn = false;  // what is cut
  BlockWidths widths = {};          // what it has then
};

struct PruningMethod {
  bool activation = true;  // importance by inputs, not by weights alone
  bool repair = true;
  bool needs_data() const { return activation || repair; }
};

/// `block` cut to its target. `visit`: the walk's place; null: no calibration
/// data, so importance is l1 and nothing is repaired. Every expert of a mixture
/// keeps channels of its own choice; one that too few tokens are sent to is
/// treated as if there were no data. Adds to `note`: "query_heads",
/// "attention_error", "attention_error_cut" (without the repair), "ffn",
/// "mlp_error", "mlp_error_cut"; of mixtures the errors are means over the
/// experts with data, and "shared_ffn", "shared_error", "shared_error_cut" and,
/// if there are any, "experts_without_data" are added.
Block prune_block(const Model& model, const BlockVisit* visit,
                  const Block& block, const PruningTarget& target,
                  const PruningMethod& method, Json& note);

/// Cuts by shape alone: the first heads and channels stay. For plans.
void narrow_block(const Architecture& architecture, Block& block,
                  const PruningTarget& target);

}  // namespace autoglm
