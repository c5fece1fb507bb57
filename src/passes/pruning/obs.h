// Optimal brain surgeon for structures: how much the best repair of a matrix
// cannot make up for when units of its inputs go, one after the other, the
// least important first and all others scored again each time (ZipLM, arXiv
// 2302.04089; SlimGPT, arXiv 2412.18110).
#pragma once

#include <ATen/ATen.h>

#include "passes/layer_moments.h"
#include "passes/output_fisher.h"

namespace autoglm {

/// Scores of units of `size` neighbouring inputs of `weight` [out, in], fp32
/// [in / size], rising in the order of removal: the growth of || W X - V Z ||^2
/// with the best V as the unit goes, never less than that of one that went
/// before. With `outputs` errors are measured by that metric. Down to
/// `fewest` units the order is followed; what would stay then has the highest
/// scores. Beyond 256 units several go at once, a 256th of all. `ridge`: of the
/// mean diagonal. `inputs` may have a drift beside them (reader_moments.h).
/// Memory: three matrices [in, in] in fp64.
at::Tensor obs_scores(const at::Tensor& weight, const Moments& inputs,
                      std::int64_t size, std::int64_t fewest,
                      const OutputMetric* outputs = nullptr,
                      double ridge = 1e-3);

}  // namespace autoglm
