// Makes matrices sparse one at a time by one method, and keeps the notes.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "autoglm/core/json.h"
#include "autoglm/core/progress.h"
#include "autoglm/model/weight.h"
#include "passes/layer_moments.h"
#include "passes/sparsification/pattern.h"

namespace autoglm {

class Sparsifier {
 public:
  /// method: "magnitude", "wanda" or "sparsegpt". `names`: of every matrix to
  /// make sparse, canonical.
  Sparsifier(std::string method, const SparsityPattern& pattern,
             std::set<std::string> names, Progress& progress)
      : method_(std::move(method)),
        pattern_(pattern),
        names_(std::move(names)),
        progress_(progress) {}

  bool wants(const std::string& name) const { return names_.contains(name); }

  /// A dense weight with zeros, in its dtype. Without moments of its inputs by
  /// magnitude. SparseGPT's result stays only if on held-out data it is no
  /// worse than Wanda's. Throws kNumeric for NaN or infinity.
  Weight sparsify(const std::string& name, const Weight& weight,
                  const SplitMoments* moments);

  /// One entry per matrix, in the order of their turns: name, method (the one
  /// whose result stayed), sparsity reached, error_magnitude (what magnitude
  /// alone gives), error_wanda (of sparsegpt), error. Errors are relative to
  /// the layer's output on held-out data; by magnitude, to the weights.
  Json take_notes() { return std::move(notes_); }
  /// Adds to a block's note: sparsity over its matrices, and of their errors
  /// the means error_magnitude and error.
  void summarize(std::int64_t layer, Json& note) const;

 private:
  at::Tensor best(const at::Tensor& weight, at::ScalarType dtype,
                  const SplitMoments& moments, Json& note) const;

  std::string method_;
  SparsityPattern pattern_;
  std::set<std::string> names_;
  Progress& progress_;
  Json notes_ = Json::array();
};

}  // namespace autoglm
