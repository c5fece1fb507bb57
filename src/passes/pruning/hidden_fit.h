// Matrices that read a site of the residual stream, fitted to fewer channels of
// it. With R the best linear guess of all channels from those that stay,
//   X ~ R Z_K,   R = (Sxz_K + r P') (Szz_KK + r I)^-1
// (P picks the channels that stay, r is a ridge towards the plain cut), the
// least-squares repair of any W is W R (repair.h): one solution serves all the
// matrices of a site, the experts' among them.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "autoglm/model/model.h"
#include "passes/layer_moments.h"
#include "passes/pruning/repair.h"

namespace autoglm {

class HiddenFit {
 public:
  /// `moments`: of X [H] and Z, the latter with zeros for the channels that
  /// went. kept: int64 [n]. Linears without a bias get one if `new_biases`, or
  /// by kBias.
  HiddenFit(SplitMoments moments, at::Tensor kept, RepairKind kind,
            bool new_biases);

  /// `linear` [out, H] with the kept columns, fitted unless the plain cut does
  /// better on held-out data; dense.
  Linear fitted(const Linear& linear);
  /// Of a matrix that cannot have a bias.
  at::Tensor fitted(const at::Tensor& weight);

  /// Relative errors, means over the matrices fitted so far.
  double error_before() const { return before_ / count_; }
  double error_after() const { return after_ / count_; }

 private:
  // Guesses [H (+1), n (+1)] for rising ridges; the extra one is a constant.
  using Guesses = std::vector<at::Tensor>;
  const Guesses& guesses(bool biased);
  Guesses solve(bool biased) const;
  Linear best(const at::Tensor& weight, const at::Tensor& bias, bool biased);

  SplitMoments moments_;
  at::Tensor kept_;
  RepairKind kind_;
  bool new_biases_;
  Guesses plain_, with_bias_;  // once asked for
  double before_ = 0, after_ = 0, count_ = 0;
};

/// The gains [n] by which a tied head, whose matrix is the embedding's and
/// stays, gives most nearly what it gave: the least-squares factors of the
/// columns E_K, pulled towards 1. fp32; undefined if held-out data prefers 1.
at::Tensor fitted_gains(const at::Tensor& embedding,
                        const SplitMoments& moments, const at::Tensor& kept);

}  // namespace autoglm
