// What a mixture loses with an expert whose tokens go to others instead.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "autoglm/model/model.h"

namespace autoglm {

/// How much the squared error of the mixture's output over the tokens x [n, H]
/// grows when an expert goes and its tokens are sent to others; greedily, the
/// least important first and all others scored again. fp32 [E], rising in the
/// order of removal down to `left` experts; those have the highest scores. Cost
/// of one removal: K + 1 times the mixture over x, K the experts of a token.
at::Tensor rerouting_scores(const Architecture& architecture,
                            const Mixture& mixture, const at::Tensor& x,
                            std::int64_t left);

}  // namespace autoglm
