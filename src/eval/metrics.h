// Sums behind a scorecard, over positions; every position counts the same.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "autoglm/eval/scorecard.h"

namespace autoglm {

class MetricSums {
 public:
  /// logits [n, V] predict targets [n] int64; `original` [n, V] are the
  /// original model's logits at the same positions, or undefined. Work is
  /// split over positions, so memory stays near a few copies of a chunk.
  /// Throws kNumeric when a logit is not finite.
  void add(const at::Tensor& logits, const at::Tensor& targets,
           const at::Tensor& original = {});

  /// perplexity, accuracy, bits per byte over `text_bytes`, divergence.
  Scorecard scorecard(std::uint64_t text_bytes) const;

 private:
  void add_chunk(const at::Tensor& logits, const at::Tensor& targets,
                 const at::Tensor& original);

  std::int64_t count_ = 0;
  double nll_ = 0;
  std::int64_t hits_ = 0;
  bool against_original_ = false;
  std::int64_t original_hits_ = 0;
  std::int64_t agreements_ = 0;
  double kl_ = 0, cosine_ = 0, l2_ = 0;
  std::vector<float> kls_;  // one per position, for the percentile
};

}  // namespace autoglm
