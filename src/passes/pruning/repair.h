// Repair of a matrix that lost input columns.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>

#include "autoglm/model/model.h"
#include "passes/layer_moments.h"

namespace autoglm {

enum class RepairKind {
  kNone,          // the plain cut
  kBias,          // the mean of what went becomes a bias (FLAP, 2312.11983)
  kLeastSquares,  // the columns that stay are fitted again
};

RepairKind repair_named(const std::string& name);

struct Repair {
  at::Tensor weight;        // [out, kept], the dtype of the original
  at::Tensor bias;          // [out] to add; undefined: none
  double error_before = 0;  // plain cut, relative, on held-out data
  double error_after = 0;   // what `weight` and `bias` give
  double ridge = 0;         // times the mean diagonal; 0: columns as cut
};

/// Finds V [out, kept] and, if `with_bias`, b with small || W X - V Z_K - b
/// ||^2, where W [out, in] is the original matrix, X its original inputs and
/// Z_K the kept columns of what the compressed stream feeds it. With a bias
/// that is the fit of the centred data. The ridge pulls towards the plain cut
/// W_K, its strength is chosen on held-out data, and if no repair is better
/// there the plain cut stays.
///   V = (W Sxz_K + r W_K) (Szz_KK + r I)^-1
/// kept: [kept] int64 column indices. kBias always has a bias. Moments may have
/// `out` more inputs than W: what is added to its output beside it and differs
/// between the streams, which the fit then makes up for too.
Repair repair_columns(const at::Tensor& weight, const at::Tensor& kept,
                      const SplitMoments& moments, RepairKind kind,
                      bool with_bias);

/// Does that to a dense matrix, whose bias may then change; one that has none
/// gets it with `new_biases` or kBias. Null moments: a plain cut, which is also
/// all that happens to meta tensors' shapes.
std::optional<Repair> keep_columns(Linear& linear, const at::Tensor& kept,
                                   const SplitMoments* moments, RepairKind kind,
                                   bool new_biases);

}  // namespace autoglm
