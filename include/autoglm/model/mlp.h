// MLPs and mixtures of experts (DeepSeekMoE routing: sigmoid scores, a bias
// that moves the choice alone, arXiv 2408.15664 and 2412.19437).
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

/// What the down projection receives: x [..., H] -> [..., F].
at::Tensor mlp_values(const Architecture& architecture, const Mlp& mlp,
                      const at::Tensor& x);

/// Which experts n tokens are sent to.
struct Routing {
  at::Tensor experts;  // [n, K] int64
  at::Tensor weights;  // [n, K] fp32
};
/// x: [n, H]. Scores in fp32.
Routing route(const RouterRule& rule, const Mixture& mixture,
              const at::Tensor& x);

/// The tokens of every expert.
struct ExpertTokens {
  at::Tensor tokens;   // [m] int64, rows of x
  at::Tensor weights;  // [m] fp32
};
std::vector<ExpertTokens> tokens_by_expert(const Routing& routing,
                                           std::size_t experts);

/// x [..., H] -> [..., H]: routed and shared experts.
at::Tensor mixture_forward(const Architecture& architecture,
                           const Mixture& mixture, const at::Tensor& x);

}  // namespace autoglm
