// How much a model's predictions suffer when one thing in it changes: the mean
// over text positions of KL(original || changed), in nats, on calibration
// windows. Measured, not estimated; that the damages of several changes add up
// is what an allocation assumes (CalibTIP, arXiv 2006.10518, section 3.3).
//
// The stream that enters a block is kept, so that a change of that block runs
// from there to the end.
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "autoglm/model/model.h"
#include "autoglm/model/walk.h"

namespace autoglm {

/// Elements of logits. Both may be large: windows times tokens times
/// vocabulary.
struct LogitLimits {
  std::int64_t at_once = std::int64_t{1} << 25;  // made in one go
  std::int64_t kept = std::int64_t{1} << 26;  // the original's, else made anew
};

/// Memory: the activations of one block border and of the last one, and the
/// logits. The streams are fp32.
class DivergenceProbe {
 public:
  /// windows: [windows, T] int64 with `prefix` tokens before each text, on the
  /// model's device. `original` must outlive this.
  DivergenceProbe(const Model& original, const at::Tensor& windows,
                  std::int64_t prefix, const LogitLimits& limits = {});

  /// From here on with_block() changes `base`, which has the original's number
  /// of blocks and must outlive this. Layers may begin anew.
  void start_from(const Model& base);
  /// The original, or what start_from() gave, with block `layer` replaced;
  /// layers must not fall from call to call. Never below 0; NaN where the
  /// predictions are not finite.
  double with_block(std::size_t layer, const Block& changed);
  /// Of a whole model, which may differ anywhere, in its blocks' number too.
  double with_model(const Model& changed) const;

 private:
  // What enters a block, batch by batch, and what goes with it.
  struct Border {
    Stream stream;
    Contexts contexts;
  };
  Border embedded(const Model& model) const;
  // After the last block, at the positions that predict text: [n, H].
  at::Tensor last_states(const Model& model, std::size_t layer,
                         const Border& border, std::size_t batch) const;
  // `border`: what the block `layer` of `changed` receives.
  double divergence(const Model& changed, std::size_t layer,
                    const Border& border) const;

  const Model& original_;
  const Model* base_;
  at::Tensor windows_;
  std::int64_t prefix_, positions_at_once_;
  std::vector<at::Tensor> states_;  // of the original, by batch
  std::int64_t positions_ = 0;
  std::vector<at::Tensor> kept_;  // the original's predictions, by chunk
  Border border_;                 // of the base's block layer_
  std::size_t layer_ = 0;
};

/// `count` of `windows` [n, T], or all, spread evenly: neighbours are of the
/// same text.
at::Tensor spread_windows(const at::Tensor& windows, std::int64_t count);

}  // namespace autoglm
