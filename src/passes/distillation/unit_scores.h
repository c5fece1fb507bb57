// What units are worth to a model in training.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "autoglm/core/rng.h"
#include "passes/distillation/unit_parts.h"

namespace autoglm {

/// By what they add to the residual stream: of each part the squared norm of a
/// unit's columns times the mean square of what they multiply (Wanda-sp, arXiv
/// 2306.11695), after the norm behind the part where there is one, per mean
/// square of the stream after the block; so that layers compare. Masked units
/// have theirs too: what they would add. fp32 [units] per part. ids: [B, T] on
/// the model's device, run 8 at a time. `model`: the student, `masked` the same
/// with its gates.
std::vector<at::Tensor> activation_scores(const Model& model,
                                          const Model& masked,
                                          const std::vector<UnitPart>& parts,
                                          const at::Tensor& ids);

/// The same of what the best fit of the columns that stay cannot make up for,
/// as units go one after the other (pruning/obs.h); 0 for masked units. masks:
/// bool [units] per part. Memory: the activations of one border, moments of one
/// part.
std::vector<at::Tensor> surgeon_scores(const Model& masked,
                                       const std::vector<UnitPart>& parts,
                                       const std::vector<at::Tensor>& masks,
                                       const at::Tensor& windows);

/// The diagonal of the Fisher information by the gates: squared derivatives
/// of the log-likelihood of labels that the model draws, mean over the windows
/// ids [B, T]; half of it is the divergence that a unit's loss costs, to
/// second order (arXiv 2204.09656). gates: leaves that ask for gradients. Adds
/// to no tensor's grad().
std::vector<at::Tensor> fisher_scores(const Model& model,
                                      const std::vector<UnitPart>& parts,
                                      const std::vector<at::Tensor>& gates,
                                      const at::Tensor& ids,
                                      std::int64_t prefix, Rng& rng);

}  // namespace autoglm
