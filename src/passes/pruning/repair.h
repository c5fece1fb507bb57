// Least-squares repair of a matrix that lost input columns.
#pragma once

#include <ATen/ATen.h>

#include "passes/layer_moments.h"

namespace autoglm {

struct Repair {
  at::Tensor weight;        // [out, kept], the dtype of the original
  double error_before = 0;  // plain cut, relative, on held-out data
  double error_after = 0;   // what `weight` gives
  double ridge = 0;         // times the mean diagonal; 0: plain cut kept
};

/// Finds V [out, kept] with small || W X - V Z_K ||^2, where W [out, in] is the
/// original matrix, X its original inputs and Z_K the kept columns of what the
/// compressed stream feeds it. The ridge pulls towards the plain cut W_K, its
/// strength is chosen on held-out data, and if no repair is better there the
/// plain cut stays.
///   V = (W Sxz_K + r W_K) (Szz_KK + r I)^-1
/// kept: [kept] int64 column indices.
Repair repair_columns(const at::Tensor& weight, const at::Tensor& kept,
                      const SplitMoments& moments);

}  // namespace autoglm
