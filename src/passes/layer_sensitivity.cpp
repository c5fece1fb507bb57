#include "autoglm/passes/layer_sensitivity.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/forward.h"
#include "passes/backward_walk.h"
#include "passes/divergence_probe.h"
#include "passes/label_gradient.h"
#include "passes/pruning/prune_block.h"
#include "passes/pruning/removal_scores.h"
#include "passes/quantization/quantizer.h"

namespace autoglm {
namespace {

BlockPart part_of(const PartSensitivity& found) {
  return found.part == part_name(BlockPart::kMlp) ? BlockPart::kMlp
                                                  : BlockPart::kAttention;
}

bool belongs_to(const std::string& name, BlockPart part) {
  return name.starts_with(part_name(part));
}

std::uint64_t parameters_of(const Block& block, BlockPart part) {
  std::int64_t sum = 0;
  visit_block(
      block,
      [&](const std::string& name, const Linear& linear) {
        if (belongs_to(name, part))
          sum += rows(linear.weight) * columns(linear.weight);
      },
      [](const std::string&, const at::Tensor&) {});
  return static_cast<std::uint64_t>(sum);
}

double mean_loss(const Model& model, const at::Tensor& states,
                 const at::Tensor& labels) {
  const std::int64_t step = std::max<std::int64_t>(
      1, (std::int64_t{1} << 23) / model.architecture.vocabulary);
  double sum = 0;
  for (std::int64_t at = 0; at < labels.size(0); at += step) {
    const std::int64_t n = std::min(step, labels.size(0) - at);
    sum -= at::log_softmax(
               head_forward(model, states.narrow(0, at, n)).to(at::kFloat), -1)
               .gather(1, labels.narrow(0, at, n).unsqueeze(1))
               .sum(at::kDouble)
               .item<double>();
  }
  return sum / static_cast<double>(labels.size(0));
}

// Mean |w * dL/dw| of the part's matrices; their gradients are in `leaves`.
double taylor_of(const std::map<std::string, at::Tensor>& leaves,
                 BlockPart part) {
  double sum = 0, count = 0;
  for (const auto& [name, leaf] : leaves) {
    if (!belongs_to(name, part)) continue;
    count += static_cast<double>(leaf.numel());
    // An expert that no token was sent to has no gradient.
    if (leaf.grad().defined())
      sum += (leaf * leaf.grad()).abs().sum(at::kDouble).item<double>();
  }
  return count > 0 ? sum / count : 0;
}

// All windows at once: the absolute value is of the gradient of the whole loss,
// and one block's matrices have theirs at a time.
void measure_taylor(const Model& model, const at::Tensor& windows,
                    std::int64_t prefix, SensitivityRecord& record) {
  const at::NoGradGuard no_grad;
  BackwardWalk walk(model, windows,
                    [&](std::size_t i) { return model.blocks[i]; });
  const at::Tensor states = text_positions(walk.output(), prefix);
  const at::Tensor labels = next_tokens(windows, prefix);
  record.loss = mean_loss(model, states.flatten(0, 1), labels);
  Rng unused(0);
  at::Tensor gradient = at::zeros_like(walk.output());
  text_positions(gradient, prefix)
      .copy_(label_gradient(model, states.flatten(0, 1), labels, unused)
                 .div_(static_cast<double>(labels.size(0)))
                 .view_as(states));
  walk.backward(gradient, [&](std::size_t i, const at::Tensor& input,
                              AttentionContext& context,
                              const at::Tensor& from) {
    Block block = model.blocks[i];
    std::map<std::string, at::Tensor> leaves;
    visit_block(
        block,
        [&](const std::string& name, Linear& linear) {
          // A copy: to_dense may give the model's own tensor.
          leaves[name] =
              to_dense(linear.weight, at::kFloat).clone().requires_grad_(true);
          linear.weight = DenseWeight{leaves[name]};
        },
        [](const std::string&, const at::Tensor&) {});
    if (i == 0 && leaves.empty()) return;
    {
      const at::AutoGradMode with_gradients(true);
      block_forward(model, block, static_cast<std::int64_t>(i), input, context)
          .backward(from);
    }
    for (PartSensitivity& part : record.blocks[i].parts) {
      part.taylor = taylor_of(leaves, part_of(part));
      if (!std::isfinite(part.taylor))
        fail(ErrorKind::kNumeric,
             fmt::format("layers.{}.{}: the gradients are not finite", i,
                         part.part));
    }
  });
}

// The part with the heads or channels that the cut leaves; none where there is
// nothing to cut or no way to.
std::optional<BlockWidths> cut_widths(const BlockWidths& from, BlockPart part) {
  const auto less = [](std::int64_t width) {
    return width - std::max<std::int64_t>(
                       1, std::llround(static_cast<double>(width) / 8));
  };
  BlockWidths to = from;
  if (part == BlockPart::kMlp) {
    to.ffn = less(from.ffn);
    if (from.shared_ffn > 0) to.shared_ffn = less(from.shared_ffn);
    return to.ffn > 0 && (from.shared_ffn == 0 || to.shared_ffn > 0)
               ? std::optional(to)
               : std::nullopt;
  }
  if (from.query_heads == from.kv_heads)
    to.query_heads = to.kv_heads = less(from.query_heads);
  else
    to.query_heads = from.query_heads - from.kv_heads;
  return to.query_heads > 0 ? std::optional(to) : std::nullopt;
}

std::optional<Block> cut_block(const Model& model, const Block& block,
                               BlockPart part, PartSensitivity& found) {
  bool dense = true;
  visit_block(
      block,
      [&](const std::string& name, const Linear& linear) {
        if (belongs_to(name, part))
          dense = dense && std::holds_alternative<DenseWeight>(linear.weight);
      },
      [](const std::string&, const at::Tensor&) {});
  const BlockWidths from = widths(model.architecture, block);
  const auto to = cut_widths(from, part);
  if (!dense || !to) return {};
  const bool attention = part == BlockPart::kAttention;
  found.cut_from = attention ? from.query_heads : from.ffn;
  found.cut_to = attention ? to->query_heads : to->ffn;
  const PruningMethod method = {.importance = Importance::kL1,
                                .repair = RepairKind::kNone};
  std::vector<Json> notes(1);
  return prune_part(model, nullptr, block,
                    attention ? Part::kAttention : Part::kMlp, {*to}, method,
                    {}, notes)
      .front();
}

DenseWeight in_4_bits(const at::Tensor& weight) {
  Grid grid = {.bits = 4, .group_size = weight.size(1)};
  for (const std::int64_t size : {128, 64, 32, 16})
    if (weight.size(1) % size == 0) {
      grid.group_size = size;
      break;
    }
  const Rounded rounded =
      by_rows(weight, [&](const at::Tensor& rows) -> Rounded {
        const GridFit fit = fit_min_max(rows, grid);
        return {nearest_codes(rows, fit, grid), fit};
      });
  return {dequantize(rounded, grid)};
}

std::optional<Block> rounded_block(Block block, BlockPart part) {
  bool any = false;
  visit_block(
      block,
      [&](const std::string& name, Linear& linear) {
        const auto* dense = std::get_if<DenseWeight>(&linear.weight);
        if (dense == nullptr || !belongs_to(name, part)) return;
        linear.weight = in_4_bits(dense->value.to(at::kFloat));
        any = true;
      },
      [](const std::string&, const at::Tensor&) {});
  return any ? std::optional(block) : std::nullopt;
}

void measure_divergences(const Model& model, const at::Tensor& windows,
                         std::int64_t prefix, SensitivityRecord& record) {
  std::int64_t trials = 0;
  for (const BlockSensitivity& block : record.blocks)
    trials += 1 + 3 * static_cast<std::int64_t>(block.parts.size());
  Progress progress("sensitivity", trials, "trials");
  DivergenceProbe probe(model, windows, prefix);
  for (BlockSensitivity& found : record.blocks) {
    const Block& block = model.blocks[found.layer];
    const auto measure = [&](const Block& changed, const std::string& what) {
      const double out = probe.with_block(found.layer, changed);
      if (!std::isfinite(out))
        fail(ErrorKind::kNumeric,
             fmt::format("layers.{} {}: the predictions are not finite",
                         found.layer, what));
      progress.step(1, fmt::format("layers.{} {}", found.layer, what));
      return out;
    };
    found.removed = measure({}, "removed");
    for (PartSensitivity& own : found.parts) {
      const BlockPart part = part_of(own);
      own.removed = measure(without_part(block, part), own.part + " removed");
      if (const auto cut = cut_block(model, block, part, own))
        own.cut = measure(*cut, own.part + " cut");
      if (const auto rounded = rounded_block(block, part))
        own.four_bits = measure(*rounded, own.part + " in 4 bits");
    }
  }
}

void measure_influence(const Model& model, const at::Tensor& windows,
                       std::int64_t prefix, SensitivityRecord& record) {
  std::vector<RemovalUnit> units;
  std::vector<double*> places;
  for (BlockSensitivity& block : record.blocks) {
    units.push_back({block.layer});
    places.push_back(&block.influence);
    for (PartSensitivity& part : block.parts) {
      units.push_back({block.layer, part_of(part)});
      places.push_back(&part.influence);
    }
  }
  const std::vector<double> found =
      block_influence(model, windows, prefix, units);
  for (std::size_t i = 0; i < found.size(); ++i) *places[i] = found[i];
}

}  // namespace

void measure_layers(const Model& model, const at::Tensor& windows,
                    std::int64_t prefix, SensitivityRecord& record) {
  record.blocks.clear();
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    BlockSensitivity block;
    block.layer = i;
    for (const BlockPart part : {BlockPart::kAttention, BlockPart::kMlp})
      if (has_part(model.blocks[i], part)) {
        PartSensitivity own;
        own.part = part_name(part);
        own.parameters = parameters_of(model.blocks[i], part);
        block.parts.push_back(std::move(own));
      }
    record.blocks.push_back(std::move(block));
  }
  measure_taylor(model, windows, prefix, record);
  measure_influence(model, windows, prefix, record);
  measure_divergences(model, windows, prefix, record);
  compare_neighbours(record);
}

}  // namespace autoglm
