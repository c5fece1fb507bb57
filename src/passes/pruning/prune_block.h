// Cutting the parts of one block to given widths: query heads (or whole
// key/value groups), the channels of its MLP or of all its experts, each time
// repairing the matrix that read what went.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "autoglm/core/json.h"
#include "autoglm/model/walk.h"
#include "passes/output_fisher.h"
#include "passes/pruning/importance.h"
#include "passes/pruning/pruning_target.h"
#include "passes/pruning/reader_moments.h"
#include "passes/pruning/repair.h"
#include "passes/pruning/unit_gradients.h"

namespace autoglm {

struct PruningMethod {
  Importance importance = Importance::kActivation;
  RepairKind repair = RepairKind::kLeastSquares;
  /// Repairs may give a bias to a matrix that has none.
  bool new_biases = false;

  bool needs_data() const {
    return needs_moments(importance) || repair != RepairKind::kNone;
  }
};

/// What was found out about a block before the walk; all of it may be empty.
struct BlockEvidence {
  UnitGradients gradients;
  BlockFisher fisher;      // token weights of moments, metrics for obs
  std::uint64_t seed = 0;  // for random
};

/// `block` with one part cut to each of `targets`, in their order; its inputs
/// are looked at once. `visit`: the walk's place; null: no calibration data, so
/// importance is by weights alone and nothing is repaired. Every expert of a
/// mixture keeps channels of its own choice; one that too few tokens are sent
/// to is treated as if there were no data. Adds to each of `notes`, one per
/// target: "query_heads" ("kv_heads"), "attention_error", "attention_error_cut"
/// (without the repair), or "ffn", "mlp_error", "mlp_error_cut"; of mixtures
/// the errors are means over the experts with data, and "shared_ffn",
/// "shared_error", "shared_error_cut" and, if there are any,
/// "experts_without_data" are added.
std::vector<Block> prune_part(const Model& model, const BlockVisit* visit,
                              const Block& block, Part part,
                              const std::vector<BlockWidths>& targets,
                              const PruningMethod& method,
                              const BlockEvidence& evidence,
                              std::vector<Json>& notes);

/// Scores of the units of a part by name of the matrix that reads them, as
/// prune_part judges them. Heads that share keys and values come group by
/// group.
std::map<std::string, at::Tensor> part_scores(const Model& model,
                                              const BlockVisit* visit,
                                              const Block& block, Part part,
                                              const PruningMethod& method,
                                              const BlockEvidence& evidence);

/// All of it: heads, then whole experts (experts.h), then channels; what comes
/// later depends on what went before.
Block prune_block(const Model& model, const BlockVisit* visit,
                  const Block& block, const PruningTarget& target,
                  const PruningMethod& method, const BlockEvidence& evidence,
                  Json& note);

}  // namespace autoglm
