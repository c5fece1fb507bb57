#include "passes/pruning/removal_scores.h"

#include <ATen/core/grad_mode.h>

#include <deque>
#include <numbers>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/text.h"
#include "autoglm/model/forward.h"

namespace autoglm {
namespace {

// Windows that are run at once.
constexpr std::int64_t kBatch = 8;

// Cosines at the positions that predict text, fp32 [B, n].
at::Tensor cosines(const at::Tensor& a, const at::Tensor& b,
                   std::int64_t prefix) {
  return at::cosine_similarity(text_positions(a, prefix),
                               text_positions(b, prefix), -1);
}

double total(const at::Tensor& values) {
  return values.sum(at::kDouble).item<double>();
}

// The block with nothing but this part.
Block part_alone(const Block& block, BlockPart part) {
  return without_part(block, part == BlockPart::kAttention
                                 ? BlockPart::kMlp
                                 : BlockPart::kAttention);
}

}  // namespace

std::string unit_name(const RemovalUnit& unit) {
  const std::string block = fmt::format("layers.{}", unit.layer);
  return unit.part ? block + "." + part_name(*unit.part) : block;
}

Block without_unit(const Block& block, const RemovalUnit& unit) {
  return unit.part ? without_part(block, *unit.part) : Block();
}

std::vector<double> block_influence(const Model& model,
                                    const at::Tensor& windows,
                                    std::int64_t prefix,
                                    const std::vector<RemovalUnit>& units) {
  const at::NoGradGuard no_grad;
  std::vector<double> sums(units.size(), 0);
  std::int64_t positions = 0;
  for (const at::Tensor& ids : windows.split(kBatch)) {
    AttentionContext context = attention_context(model, ids);
    at::Tensor x = embed(model, model.embedding, ids, context, at::kFloat);
    positions += text_positions(x, prefix).numel() / x.size(-1);
    std::size_t next = 0;
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      check_interrupted();
      const Block& block = model.blocks[i];
      const auto layer = static_cast<std::int64_t>(i);
      const at::Tensor middle = block_forward(
          model, part_alone(block, BlockPart::kAttention), layer, x, context);
      const at::Tensor out = block_forward(
          model, part_alone(block, BlockPart::kMlp), layer, middle, context);
      for (; next < units.size() && units[next].layer == i; ++next) {
        const auto& part = units[next].part;
        sums[next] += total(
            1 - cosines(part == BlockPart::kMlp ? middle : x,
                        part == BlockPart::kAttention ? middle : out, prefix));
      }
      x = out;
    }
    AUTOGLM_ENSURE(next == units.size());
  }
  for (double& sum : sums) sum /= static_cast<double>(positions);
  return sums;
}

std::vector<double> angular_distances(const Model& model,
                                      const at::Tensor& windows,
                                      std::int64_t prefix, std::size_t count) {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(count >= 1 && count <= model.blocks.size());
  std::vector<double> sums(model.blocks.size() - count + 1, 0);
  std::int64_t positions = 0;
  for (const at::Tensor& ids : windows.split(kBatch)) {
    AttentionContext context = attention_context(model, ids);
    std::deque<at::Tensor> borders = {
        embed(model, model.embedding, ids, context, at::kFloat)};
    positions +=
        text_positions(borders[0], prefix).numel() / borders[0].size(-1);
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      check_interrupted();
      borders.push_back(block_forward(model, model.blocks[i],
                                      static_cast<std::int64_t>(i),
                                      borders.back(), context));
      if (borders.size() <= count) continue;
      // fp32 cosines of equal vectors can exceed 1.
      sums[i + 1 - count] += total(at::acos(
          cosines(borders.front(), borders.back(), prefix).clamp(-1, 1)));
      borders.pop_front();
    }
  }
  for (double& sum : sums)
    sum /= std::numbers::pi * static_cast<double>(positions);
  return sums;
}

}  // namespace autoglm
