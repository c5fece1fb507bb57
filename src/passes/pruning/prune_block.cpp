#include "passes/pruning/prune_block.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "autoglm/core/interrupt.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "passes/expert_inputs.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/experts.h"
#include "passes/pruning/reader_moments.h"

namespace autoglm {
namespace {

// The matrix that reads the units of a part or of one expert, with what judges
// and repairs it.
struct Reader {
  std::string name;  // below the block
  bool routed = false;
  std::optional<SplitMoments> data;
  at::Tensor scores;  // of its units
};

// The MLP to which a reader belongs.
Mlp& mlp_of(Block& block, const std::string& reader) {
  constexpr std::string_view kExperts = "mlp.experts.";
  if (reader == "mlp.down") return block.mlp;
  if (reader == "mlp.shared.down") return block.mixture.shared;
  return block.mixture.experts.at(
      static_cast<std::size_t>(std::stoul(reader.substr(kExperts.size()))));
}

class PartPruner {
 public:
  PartPruner(const Model& model, const BlockVisit* visit, const Block& block,
             Part part, const PruningMethod& method,
             const BlockEvidence& evidence)
      : model_(model),
        visit_(method.needs_data() ? visit : nullptr),
        block_(block),
        part_(part),
        method_(method),
        evidence_(evidence) {}

  /// Readers one after the other, so that the data of one is held at a time.
  /// `fewest`: units that one may be left with.
  template <class Visit>
  void for_readers(std::int64_t fewest, Visit&& visit) const;

  /// Cuts what `reader` reads in `block` to `to`.
  std::optional<Repair> cut(Block& block, const Reader& reader,
                            const BlockWidths& to) const;

 private:
  std::optional<SplitMoments> moments() const;
  void score(Reader& reader, std::int64_t fewest) const;

  const Model& model_;
  const BlockVisit* visit_;  // null: no data, or no need of it
  const Block& block_;
  Part part_;
  const PruningMethod& method_;
  const BlockEvidence& evidence_;
};

std::optional<SplitMoments> PartPruner::moments() const {
  if (visit_ == nullptr) return {};
  const auto& tokens = evidence_.fisher.tokens;
  const auto found =
      tokens.find(part_ == Part::kAttention ? Site::kOutput : Site::kDown);
  return reader_moments(model_, *visit_, block_, part_,
                        found != tokens.end() ? found->second : at::Tensor());
}

void PartPruner::score(Reader& reader, std::int64_t fewest) const {
  Importance importance = method_.importance;
  Evidence given;
  Moments own;           // without the drift beside them
  Block names = block_;  // find_linear wants to write
  if (reader.data && importance == Importance::kObs) {
    given.inputs = &reader.data->fit;
  } else if (reader.data) {
    // Without the drift beside them.
    own = reader.data->fit.first(
        columns(find_linear(names, reader.name)->weight));
    given.inputs = &own;
  }
  given.fewest = fewest;
  given.seed = derive_seed(evidence_.seed, reader.name);
  const auto gradients = evidence_.gradients.find(reader.name);
  if (gradients != evidence_.gradients.end())
    given.gradients = gradients->second;
  const auto outputs = evidence_.fisher.outputs.find(reader.name);
  if (outputs != evidence_.fisher.outputs.end())
    given.outputs = &outputs->second;
  if ((needs_moments(importance) && given.inputs == nullptr) ||
      (needs_gradients(importance) && !given.gradients.defined()))
    importance = without_data(importance);
  reader.scores =
      part_ == Part::kAttention
          ? head_scores(model_.architecture, block_, importance, given)
          : channel_scores(block_, mlp_of(names, reader.name), importance,
                           given);
}

template <class Visit>
void PartPruner::for_readers(std::int64_t fewest, Visit&& visit) const {
  const auto one = [&](Reader reader) {
    check_interrupted();
    score(reader, fewest);
    visit(reader);
  };
  if (part_ == Part::kAttention)
    return one({"attention.output", false, moments(), {}});
  if (!block_.is_mixture()) return one({"mlp.down", false, moments(), {}});
  // What experts receive depends on the attention, which is final by now, and
  // on no other expert.
  std::optional<ExpertInputs> inputs;
  if (visit_ != nullptr) inputs.emplace(model_, *visit_, block_);
  const Mixture& mixture = block_.mixture;
  for (std::size_t e = 0; e < mixture.experts.size(); ++e) {
    std::optional<SplitMoments> data;
    if (inputs)
      data = inputs->down(e, visit_->original.mixture.experts[e],
                          mixture.experts[e]);
    one({fmt::format("mlp.experts.{}.down", e), true, std::move(data), {}});
  }
  if (mixture.shared.down.present())
    one({"mlp.shared.down", false, moments(), {}});
}

struct KeptHeads {
  at::Tensor heads, groups;  // groups: of keys and values that heads share
};

// The best of every group, so that each keeps as many; or the best groups.
// Heads with keys and values of their own are free.
KeptHeads kept_heads(const at::Tensor& scores, const BlockWidths& from,
                     const BlockWidths& to) {
  if (from.query_heads == from.kv_heads)
    return {largest(scores, to.query_heads), {}};
  const std::int64_t size = from.query_heads / from.kv_heads;
  const at::Tensor groups =
      largest(scores.view({from.kv_heads, size}).sum(1), to.kv_heads);
  const at::Tensor chosen = groups.cpu();
  std::vector<at::Tensor> heads;
  for (std::int64_t i = 0; i < to.kv_heads; ++i) {
    const std::int64_t start = chosen[i].item<std::int64_t>() * size;
    heads.push_back(
        largest(scores.narrow(0, start, size), to.query_heads / to.kv_heads) +
        start);
  }
  return {at::cat(heads), groups};
}

std::optional<Repair> PartPruner::cut(Block& block, const Reader& reader,
                                      const BlockWidths& to) const {
  const SplitMoments* data = reader.data && method_.repair != RepairKind::kNone
                                 ? &*reader.data
                                 : nullptr;
  if (part_ == Part::kAttention) {
    const Architecture& a = model_.architecture;
    const KeptHeads kept = kept_heads(reader.scores, widths(a, block_), to);
    keep_head_rows(a, block, kept.heads, kept.groups);
    return keep_columns(block.attention.output, head_columns(a, kept.heads),
                        data, method_.repair, method_.new_biases);
  }
  const at::Tensor kept = largest(
      reader.scores, reader.name == "mlp.shared.down" ? to.shared_ffn : to.ffn);
  Mlp& mlp = mlp_of(block, reader.name);
  keep_channel_rows(mlp, kept);
  return keep_columns(mlp.down, kept, data, method_.repair, method_.new_biases);
}

// Errors of one part, or means over the experts that had data.
struct Errors {
  double before = 0, after = 0;
  int count = 0, without = 0;

  void add(const std::optional<Repair>& repair, bool had_data) {
    without += had_data ? 0 : 1;
    if (!repair) return;
    before += repair->error_before;
    after += repair->error_after;
    ++count;
  }
  void write(Json& note, const std::string& name) const {
    if (count == 0) return;
    note[name + "_cut"] = before / count;
    note[name] = after / count;
  }
};

std::int64_t fewest_units(Part part, const std::vector<BlockWidths>& targets) {
  std::int64_t out = std::numeric_limits<std::int64_t>::max();
  for (const BlockWidths& to : targets)
    out = std::min(out, part == Part::kAttention ? to.query_heads : to.ffn);
  return out;
}

}  // namespace

std::vector<Block> prune_part(const Model& model, const BlockVisit* visit,
                              const Block& block, Part part,
                              const std::vector<BlockWidths>& targets,
                              const PruningMethod& method,
                              const BlockEvidence& evidence,
                              std::vector<Json>& notes) {
  const PartPruner pruner(model, visit, block, part, method, evidence);
  const bool data = visit != nullptr && method.needs_data();
  std::vector<Block> out(targets.size(), block);
  std::vector<Errors> own(targets.size()), shared(targets.size());
  pruner.for_readers(fewest_units(part, targets), [&](const Reader& reader) {
    for (std::size_t t = 0; t < targets.size(); ++t) {
      Errors& errors = reader.name == "mlp.shared.down" ? shared[t] : own[t];
      errors.add(pruner.cut(out[t], reader, targets[t]),
                 reader.data.has_value());
    }
  });
  for (std::size_t t = 0; t < targets.size(); ++t) {
    Json& note = notes[t];
    if (part == Part::kAttention) {
      note["query_heads"] = targets[t].query_heads;
      note["kv_heads"] = targets[t].kv_heads;
      own[t].write(note, "attention_error");
      continue;
    }
    note["ffn"] = targets[t].ffn;
    own[t].write(note, "mlp_error");
    if (!block.is_mixture()) continue;
    if (data && own[t].without > 0)
      note["experts_without_data"] = own[t].without;
    if (!block.mixture.shared.down.present()) continue;
    note["shared_ffn"] = targets[t].shared_ffn;
    shared[t].write(note, "shared_error");
  }
  return out;
}

std::map<std::string, at::Tensor> part_scores(const Model& model,
                                              const BlockVisit* visit,
                                              const Block& block, Part part,
                                              const PruningMethod& method,
                                              const BlockEvidence& evidence) {
  std::map<std::string, at::Tensor> out;
  PartPruner(model, visit, block, part, method, evidence)
      .for_readers(
          1, [&](const Reader& reader) { out[reader.name] = reader.scores; });
  return out;
}

Block prune_block(const Model& model, const BlockVisit* visit,
                  const Block& block, const PruningTarget& target,
                  const PruningMethod& method, const BlockEvidence& evidence,
                  Json& note) {
  Block out = block;
  std::vector<Json> notes = {std::move(note)};
  const auto cut = [&](const BlockVisit* place, Part part,
                       const BlockEvidence& own) {
    if (target.cuts(part))
      out = prune_part(model, place, out, part, {target.widths}, method, own,
                       notes)
                .front();
  };
  cut(visit, Part::kAttention, evidence);
  if (!target.experts) {
    cut(visit, Part::kMlp, evidence);
  } else {
    const FewerExperts fewer =
        drop_experts(model, visit, out, target, method, evidence, notes[0]);
    out = fewer.block;
    const BlockEvidence own = keep_experts(evidence, fewer.kept);
    if (visit == nullptr) {
      cut(nullptr, Part::kMlp, own);
    } else {
      // The experts that are left, as they were before this pass.
      const Block original = keep_experts(visit->original, fewer.kept);
      const BlockVisit place = {visit->layer,
                                original,
                                visit->original_input,
                                visit->original_output,
                                visit->compressed_input,
                                visit->original_contexts,
                                visit->compressed_contexts};
      cut(&place, Part::kMlp, own);
    }
  }
  note = std::move(notes.front());
  return out;
}

}  // namespace autoglm
