#include "passes/divergence_probe.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"

namespace autoglm {
namespace {

// Windows that are run at once.
constexpr std::int64_t kBatch = 8;

at::Tensor run_block(const Model& model, std::size_t layer, const at::Tensor& x,
                     AttentionContext& context) {
  check_interrupted();
  return block_forward(model, model.blocks[layer],
                       static_cast<std::int64_t>(layer), x, context);
}

// [n, H] -> log-probabilities [n, V].
at::Tensor predictions(const Model& model, const at::Tensor& states) {
  return at::log_softmax(head_forward(model, states).to(at::kFloat), -1);
}

}  // namespace

DivergenceProbe::DivergenceProbe(const Model& original,
                                 const at::Tensor& windows, std::int64_t prefix,
                                 const LogitLimits& limits)
    : original_(original),
      base_(&original),
      windows_(windows),
      prefix_(prefix),
      positions_at_once_(std::max<std::int64_t>(
          1, limits.at_once / original.architecture.vocabulary)) {
  const at::NoGradGuard no_grad;
  border_ = embedded(original);
  for (std::size_t b = 0; b < border_.stream.size(); ++b) {
    states_.push_back(last_states(original, 0, border_, b));
    positions_ += states_.back().size(0);
  }
  AUTOGLM_ENSURE(positions_ > 0);
  if (positions_ * original.architecture.vocabulary > limits.kept) return;
  for (const at::Tensor& states : states_)
    for (const at::Tensor& chunk : states.split(positions_at_once_))
      kept_.push_back(predictions(original, chunk));
}

void DivergenceProbe::start_from(const Model& base) {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(base.blocks.size() == original_.blocks.size());
  base_ = &base;
  border_ = embedded(base);
  layer_ = 0;
}

double DivergenceProbe::with_block(std::size_t layer, const Block& changed) {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(layer >= layer_);
  for (; layer_ < layer; ++layer_)
    for (std::size_t b = 0; b < border_.stream.size(); ++b)
      border_.stream[b] =
          run_block(*base_, layer_, border_.stream[b], border_.contexts[b]);
  Model model = *base_;
  model.blocks[layer] = changed;
  return divergence(model, layer, border_);
}

double DivergenceProbe::with_model(const Model& changed) const {
  const at::NoGradGuard no_grad;
  return divergence(changed, 0, embedded(changed));
}

DivergenceProbe::Border DivergenceProbe::embedded(const Model& model) const {
  Border out;
  for (const at::Tensor& ids : windows_.split(kBatch)) {
    out.contexts.push_back(attention_context(model, ids));
    out.stream.push_back(
        embed(model, model.embedding, ids, out.contexts.back(), at::kFloat));
  }
  return out;
}

at::Tensor DivergenceProbe::last_states(const Model& model, std::size_t layer,
                                        const Border& border,
                                        std::size_t batch) const {
  at::Tensor x = border.stream[batch];
  AttentionContext context = border.contexts[batch];
  for (; layer < model.blocks.size(); ++layer)
    x = run_block(model, layer, x, context);
  return text_positions(x, prefix_).flatten(0, 1);
}

double DivergenceProbe::divergence(const Model& changed, std::size_t layer,
                                   const Border& border) const {
  double sum = 0;
  std::size_t kept = 0;
  for (std::size_t b = 0; b < states_.size(); ++b) {
    const std::vector<at::Tensor> own = states_[b].split(positions_at_once_);
    const std::vector<at::Tensor> others =
        last_states(changed, layer, border, b).split(positions_at_once_);
    for (std::size_t c = 0; c < own.size(); ++c) {
      check_interrupted();
      const at::Tensor log_q =
          kept_.empty() ? predictions(original_, own[c]) : kept_[kept++];
      const at::Tensor log_p = predictions(changed, others[c]);
      sum += (log_q.exp() * (log_q - log_p)).sum(at::kDouble).item<double>();
    }
  }
  // The fp32 sum of a tiny divergence can fall below 0.
  return sum < 0 ? 0 : sum / static_cast<double>(positions_);
}

at::Tensor spread_windows(const at::Tensor& windows, std::int64_t count) {
  count = std::min(count, windows.size(0));
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < count; ++i)
    chosen.push_back(i * windows.size(0) / count);
  return windows.index_select(
      0, at::tensor(chosen, at::kLong).to(windows.device()));
}

}  // namespace autoglm
