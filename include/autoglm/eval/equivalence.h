// Is a model still equivalent to its reference? Logits and what flows between
// the blocks are compared; each check has its part, measure, threshold and
// verdict.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "autoglm/eval/evaluate.h"

namespace autoglm {

/// Limits; a check is left out when its limit is not set. Cosine and l2 hold
/// for every layer and for the logits, the others for the logits.
struct EquivalenceLimits {
  std::optional<double> min_cosine = 0.995;
  std::optional<double> max_l2 = 1e-4;
  std::optional<double> min_top1_agreement = 1;
  std::optional<double> max_kl;
  std::optional<double> max_kl_p99;
  std::optional<double> min_accuracy_retention;
  std::optional<double> max_perplexity_ratio;
};

/// "cosine=0.99,l2=1e-3,top1=0.98" over the defaults. The names are the
/// measures' of a Scorecard, and perplexity_ratio; top1 is top1_agreement.
/// Throws kConfig for another name and for what is no number.
EquivalenceLimits parse_limits(const std::string& text);

/// The hidden states between two blocks against the reference's.
struct LayerDivergence {
  std::string layer;  // "embedding", "layers.3": what they come out of
  double cosine = 0;  // mean over positions
  double l2 = 0;      // mean of || h - r || / || r ||, r the reference's
};

struct Equivalence {
  Scorecard scorecard;  // with a divergence
  std::vector<LayerDivergence> layers;
  std::string left_out;  // which layers are not compared, and why; or ""
  /// Only needed for a limit on the perplexity ratio.
  std::optional<double> reference_perplexity;
};

/// Both models over the same windows. Layers are compared where the residual
/// streams are equally wide; of models with different numbers of blocks, what
/// comes out of the embedding and of the last block. Throws kInput where the
/// vocabularies differ.
Equivalence compare_models(const Model& model, const Model& reference,
                           const TokenWindows& windows,
                           EvaluateOptions options = {});

struct EquivalenceCheck {
  std::string part;     // "logits", "layers.3"
  std::string measure;  // "kl"
  double value = 0;
  double limit = 0;
  bool at_most = true;  // else at least
  bool passed = false;
};

/// Layers first.
std::vector<EquivalenceCheck> check_equivalence(
    const Equivalence& found, const EquivalenceLimits& limits);

/// For people, one line per measure and kind of part that did not pass: by how
/// much, of layers the worst.
std::vector<std::string> shortfalls(
    const std::vector<EquivalenceCheck>& checks);

Json to_json(const std::vector<EquivalenceCheck>& checks);
Json to_json(const std::vector<LayerDivergence>& layers);

}  // namespace autoglm
