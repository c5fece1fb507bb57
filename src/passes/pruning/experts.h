// Dropping whole routed experts of a mixture: their matrices, their rows of the
// router and their correction biases. The others are counted anew, and the
// router shares every token among those that are left (where weights are
// normalised they sum up as before).
//
// What an expert is worth, by importance:
//   l1, l2, norm_gain  the norm of all its weights (importance.h)
//   activation   mean over all tokens of the routing weight times the norm of
//                the output, 0 where a token is not sent to it: how often it is
//                used times REAP's score (arXiv 2510.13999), which is the mean
//                over its own tokens
//   fluctuation  the variance over all tokens of what it adds to the stream
//   taylor, fisher  of the loss, by a factor in front of what it adds
//   obs          what rerouting cannot make up for (rerouting.h)
//   random       the floor
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/core/json.h"
#include "passes/pruning/prune_block.h"

namespace autoglm {

/// How many of `from.experts` stay where the share `ratio` [0, 1) is to go: as
/// many in each group of experts, and never fewer than a token is sent to.
std::int64_t experts_left(const BlockWidths& from, const RouterRule& rule,
                          double ratio);

/// The best `left` of `scores` [E], the same number of each of `groups`
/// neighbouring groups: int64 [left] ascending, on the CPU; of equals the first
/// ones.
at::Tensor best_experts(const at::Tensor& scores, std::int64_t left,
                        std::int64_t groups);

/// `block`, a mixture, with the experts `kept` (int64 on the CPU) alone.
Block keep_experts(Block block, const at::Tensor& kept);

/// The same of evidence about their channels.
BlockEvidence keep_experts(BlockEvidence evidence, const at::Tensor& kept);

struct FewerExperts {
  Block block;
  at::Tensor kept;  // [widths.experts] int64 on the CPU
};

/// Drops experts of `block`, a mixture, down to `target`. `visit`: the walk's
/// place, null: none, as for prune_part(). The repair fits `down` of the shared
/// expert, which sees every token, so that the block as a whole gives what it
/// gave; not where the target cuts that matrix anyhow (its own repair then does
/// the same), it is not there or not dense, or held-out tokens say otherwise.
/// Notes "experts", "dropped_experts", and with data "experts_error_cut" and
/// "experts_error": the squared error of what leaves the block on held-out
/// tokens, per square of what the block adds to the stream, before and after
/// the repair.
FewerExperts drop_experts(const Model& model, const BlockVisit* visit,
                          const Block& block, const PruningTarget& target,
                          const PruningMethod& method,
                          const BlockEvidence& evidence, Json& note);

}  // namespace autoglm
