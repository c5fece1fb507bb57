#include "passes/pruning/prune_block.h"

#include <optional>

#include "autoglm/core/interrupt.h"
#include "passes/expert_inputs.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/importance.h"
#include "passes/pruning/repair.h"

namespace autoglm {
namespace {

void note_repair(Json& note, const std::string& name, double before,
                 double after) {
  note[name + "_cut"] = before;
  note[name] = after;
}

void note_repair(Json& note, const std::string& name,
                 const std::optional<Repair>& repair) {
  if (repair)
    note_repair(note, name, repair->error_before, repair->error_after);
}

// Keeps columns of a matrix; those of a plain cut without moments.
std::optional<Repair> keep_columns(Linear& linear, const at::Tensor& kept,
                                   const SplitMoments* moments) {
  const at::Tensor weight = std::get<DenseWeight>(linear.weight).value;
  if (moments == nullptr) {
    linear.weight = DenseWeight{pick(weight, 1, kept)};
    return {};
  }
  Repair repair = repair_columns(weight, kept, *moments);
  linear.weight = DenseWeight{repair.weight};
  return repair;
}

// Counts from 0 on the device of the block.
at::Tensor first(const Block& block, std::int64_t count) {
  return at::arange(count, at::TensorOptions(at::kLong).device(
                               device(block.attention.output.weight)));
}

// One block on its way.
class BlockPruner {
 public:
  BlockPruner(const Model& model, const BlockVisit* visit,
              const PruningTarget& target, const PruningMethod& method,
              Block block, Json& note)
      : model_(model),
        visit_(method.needs_data() ? visit : nullptr),
        to_(target.widths),
        method_(method),
        block_(std::move(block)),
        note_(note) {}

  void prune_heads();
  void prune_mlp();
  void prune_experts();
  Block take() { return std::move(block_); }

 private:
  using Data = std::optional<SplitMoments>;

  Data moments_at(Site site) const {
    if (visit_ == nullptr) return {};
    return collect_moments(model_, *visit_, block_, site);
  }
  const Moments* for_importance(const Data& data) const {
    return data && method_.activation ? &data->fit : nullptr;
  }
  const SplitMoments* for_repair(const Data& data) const {
    return data && method_.repair ? &*data : nullptr;
  }
  // Cuts an MLP to its most important channels.
  std::optional<Repair> prune_channels(Mlp& mlp, std::int64_t count,
                                       const Data& data) const;

  const Model& model_;
  const BlockVisit* visit_;  // null: no data, or no need of it
  const BlockWidths& to_;
  const PruningMethod& method_;
  Block block_;
  Json& note_;
};

void BlockPruner::prune_heads() {
  const Architecture& a = model_.architecture;
  const BlockWidths from = widths(a, block_);
  const Data data = moments_at(Site::kOutput);
  const at::Tensor scores = head_scores(a, block_, for_importance(data));
  // The best of every group, so that each keeps as many. Heads with keys and
  // values of their own are free.
  const std::int64_t groups =
      from.query_heads == from.kv_heads ? 1 : from.kv_heads;
  const std::int64_t size = from.query_heads / groups;
  std::vector<at::Tensor> kept;
  for (std::int64_t g = 0; g < groups; ++g)
    kept.push_back(
        largest(scores.narrow(0, g * size, size), to_.query_heads / groups) +
        g * size);
  const at::Tensor heads = at::cat(kept);
  keep_head_rows(a, block_, heads);
  note_repair(note_, "attention_error",
              keep_columns(block_.attention.output, head_columns(a, heads),
                           for_repair(data)));
  note_["query_heads"] = to_.query_heads;
}

std::optional<Repair> BlockPruner::prune_channels(Mlp& mlp, std::int64_t count,
                                                  const Data& data) const {
  const at::Tensor kept =
      largest(channel_scores(mlp, for_importance(data)), count);
  keep_channel_rows(mlp, kept);
  return keep_columns(mlp.down, kept, for_repair(data));
}

void BlockPruner::prune_mlp() {
  note_repair(note_, "mlp_error",
              prune_channels(block_.mlp, to_.ffn, moments_at(Site::kDown)));
  note_["ffn"] = to_.ffn;
}

void BlockPruner::prune_experts() {
  Mixture& mixture = block_.mixture;
  // What experts receive depends on the attention, which is final by now, and
  // on no other expert.
  std::optional<ExpertInputs> inputs;
  if (visit_ != nullptr) inputs.emplace(model_, *visit_, block_);
  double before = 0, after = 0;
  int repaired = 0, without_data = 0;
  for (std::size_t e = 0; e < mixture.experts.size(); ++e) {
    check_interrupted();
    Mlp& expert = mixture.experts[e];
    Data data;
    if (inputs)
      data = inputs->down(e, visit_->original.mixture.experts[e], expert);
    if (inputs && !data) ++without_data;
    if (const auto repair = prune_channels(expert, to_.ffn, data)) {
      before += repair->error_before;
      after += repair->error_after;
      ++repaired;
    }
  }
  note_["ffn"] = to_.ffn;
  if (repaired > 0)
    note_repair(note_, "mlp_error", before / repaired, after / repaired);
  if (without_data > 0) note_["experts_without_data"] = without_data;
  if (!mixture.shared.down.present()) return;
  note_repair(
      note_, "shared_error",
      prune_channels(mixture.shared, to_.shared_ffn, moments_at(Site::kDown)));
  note_["shared_ffn"] = to_.shared_ffn;
}

}  // namespace

Block prune_block(const Model& model, const BlockVisit* visit,
                  const Block& block, const PruningTarget& target,
                  const PruningMethod& method, Json& note) {
  BlockPruner pruner(model, visit, target, method, block, note);
  // Attention first: what the MLP receives depends on it.
  if (target.heads) pruner.prune_heads();
  if (target.ffn && block.is_mixture())
    pruner.prune_experts();
  else if (target.ffn)
    pruner.prune_mlp();
  return pruner.take();
}

void narrow_block(const Architecture& a, Block& block,
                  const PruningTarget& target) {
  if (target.heads) {
    const at::Tensor heads = first(block, target.widths.query_heads);
    keep_head_rows(a, block, heads);
    keep_columns(block.attention.output, head_columns(a, heads), nullptr);
  }
  if (!target.ffn) return;
  const auto narrow = [&](Mlp& mlp, std::int64_t width) {
    if (!mlp.down.present()) return;
    const at::Tensor kept = first(block, width);
    keep_channel_rows(mlp, kept);
    keep_columns(mlp.down, kept, nullptr);
  };
  if (!block.is_mixture()) return narrow(block.mlp, target.widths.ffn);
  for (Mlp& expert : block.mixture.experts) narrow(expert, target.widths.ffn);
  narrow(block.mixture.shared, target.widths.shared_ffn);
}

}  // namespace autoglm
