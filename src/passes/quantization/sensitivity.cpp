#include "passes/quantization/sensitivity.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/model/walk.h"

namespace autoglm {
namespace {

// Windows that are run at once.
constexpr std::int64_t kBatch = 8;
// What enters a block, batch by batch, and what goes with it.
struct Border {
  Stream stream;
  Contexts contexts;
};

Border embedded(const Model& model, const at::Tensor& windows) {
  Border out;
  for (const at::Tensor& ids : windows.split(kBatch)) {
    out.contexts.push_back(attention_context(model, ids));
    out.stream.push_back(
        embed(model, model.embedding, ids, out.contexts.back(), at::kFloat));
  }
  return out;
}

at::Tensor run_block(const Model& model, std::size_t layer, const at::Tensor& x,
                     AttentionContext& context) {
  check_interrupted();
  return block_forward(model, model.blocks[layer],
                       static_cast<std::int64_t>(layer), x, context);
}

// Compares models with the original's predictions.
class Judge {
 public:
  Judge(const Model& original, const at::Tensor& windows, std::int64_t prefix,
        const LogitLimits& limits)
      : original_(original),
        prefix_(prefix),
        positions_at_once_(std::max<std::int64_t>(
            1, limits.at_once / original.architecture.vocabulary)) {
    const Border border = embedded(original, windows);
    for (std::size_t b = 0; b < border.stream.size(); ++b) {
      states_.push_back(last_states(original, 0, border, b));
      positions_ += states_.back().size(0);
    }
    AUTOGLM_ENSURE(positions_ > 0);
    if (positions_ * original.architecture.vocabulary > limits.kept) return;
    for (const at::Tensor& states : states_)
      for_chunks(states, [&](std::int64_t at, std::int64_t count) {
        kept_.push_back(predictions(original, states.narrow(0, at, count)));
      });
  }

  /// `border`: what the block `layer` of `changed` receives.
  double divergence(const Model& changed, std::size_t layer,
                    const Border& border) const {
    double sum = 0;
    std::size_t chunk = 0;
    for (std::size_t b = 0; b < states_.size(); ++b) {
      const at::Tensor states = last_states(changed, layer, border, b);
      for_chunks(states, [&](std::int64_t at, std::int64_t count) {
        const at::Tensor log_q =
            kept_.empty()
                ? predictions(original_, states_[b].narrow(0, at, count))
                : kept_[chunk++];
        const at::Tensor log_p =
            predictions(changed, states.narrow(0, at, count));
        sum += (log_q.exp() * (log_q - log_p)).sum(at::kDouble).item<double>();
      });
    }
    // The fp32 sum of a tiny divergence can fall below 0.
    return sum < 0 ? 0 : sum / static_cast<double>(positions_);
  }

 private:
  // After the last block, at the positions that predict text: [n, H].
  at::Tensor last_states(const Model& model, std::size_t layer,
                         const Border& border, std::size_t batch) const {
    at::Tensor x = border.stream[batch];
    AttentionContext context = border.contexts[batch];
    for (; layer < model.blocks.size(); ++layer)
      x = run_block(model, layer, x, context);
    return text_positions(x, prefix_).flatten(0, 1);
  }

  // [n, H] -> log-probabilities [n, V].
  static at::Tensor predictions(const Model& model, const at::Tensor& states) {
    return at::log_softmax(head_forward(model, states).to(at::kFloat), -1);
  }

  template <class Chunk>
  void for_chunks(const at::Tensor& states, Chunk&& chunk) const {
    for (std::int64_t at = 0; at < states.size(0); at += positions_at_once_) {
      check_interrupted();
      chunk(at, std::min(positions_at_once_, states.size(0) - at));
    }
  }

  const Model& original_;
  std::int64_t prefix_, positions_at_once_;
  std::vector<at::Tensor> states_;  // of the original, by batch
  std::int64_t positions_ = 0;
  std::vector<at::Tensor> kept_;  // the original's predictions, by chunk
};

}  // namespace

std::vector<std::vector<double>> measure_sensitivity(
    const Model& model, const at::Tensor& windows, std::int64_t prefix,
    const std::vector<FusedUnit>& units, const QuantizeMatrix& quantize,
    const LogitLimits& limits) {
  const at::NoGradGuard no_grad;
  std::int64_t trials = 0;
  for (const FusedUnit& unit : units)
    if (unit.widths.size() > 1)
      trials += static_cast<std::int64_t>(unit.widths.size());
  Progress progress("sensitivity", trials, "trials");
  const Judge judge(model, windows, prefix, limits);
  Border border = embedded(model, windows);
  std::vector<std::vector<double>> out;
  std::int64_t layer = 0;  // whose border it is
  for (const FusedUnit& unit : units) {
    if (unit.widths.size() == 1) {
      out.push_back({0});
      continue;
    }
    for (; layer < unit.layer; ++layer)
      for (std::size_t b = 0; b < border.stream.size(); ++b)
        border.stream[b] = run_block(model, static_cast<std::size_t>(layer),
                                     border.stream[b], border.contexts[b]);
    out.emplace_back();
    for (const int bits : unit.widths) {
      Model changed = model;
      for (const std::string& name : unit.matrices)
        weight_of(changed, name) = quantize(name, bits);
      const double damage =
          unit.layer < 0
              ? judge.divergence(changed, 0, embedded(changed, windows))
              : judge.divergence(changed, static_cast<std::size_t>(layer),
                                 border);
      if (!std::isfinite(damage))
        fail(ErrorKind::kNumeric,
             fmt::format("quantization: with {} in {} bits the predictions are "
                         "not finite",
                         unit.name, bits));
      out.back().push_back(damage);
      progress.step(1, fmt::format("{}, {} bits", unit.name, bits));
    }
  }
  return out;
}

double mean_divergence(const Model& original, const Model& changed,
                       const at::Tensor& windows, std::int64_t prefix,
                       const LogitLimits& limits) {
  const at::NoGradGuard no_grad;
  return Judge(original, windows, prefix, limits)
      .divergence(changed, 0, embedded(changed, windows));
}

}  // namespace autoglm
