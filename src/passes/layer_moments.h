// Second moments of what a matrix receives, in the original model and in the
// model compressed so far. For a linear layer they hold all that a squared
// error over the calibration data can ask:
//   || W X - V Z ||^2 = tr(W See W') + 2 tr(W Sez D') + tr(D Szz D')
// with X the original and Z the compressed stream's inputs, E = Z - X the drift
// between them and D = V - W. Written in differences, so that small errors are
// not what remains of large numbers. Fitting against the moments is full-batch,
// exact and independent of the number of tokens.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <utility>

#include "autoglm/model/walk.h"

namespace autoglm {

/// Sums over tokens, which may have weights; [in, in] fp32 on the model's
/// device. Of one stream alone there is no drift: its tensors are undefined and
/// count as zeros.
struct Moments {
  at::Tensor compressed;   // Szz
  at::Tensor drift_cross;  // Sez: rows of the drift, columns of Z
  at::Tensor drift;        // See
  at::Tensor sum;          // of Z [in]
  at::Tensor drift_sum;    // of E [in]
  double tokens = 0;       // or the sum of their weights

  /// x, z: [..., in]; x undefined: of one stream, X = Z. `weights` [...] fp32,
  /// undefined: 1 each.
  void add(const at::Tensor& x, const at::Tensor& z,
           const at::Tensor& weights = {});
  bool empty() const { return tokens == 0; }
  bool has_drift() const { return drift.defined(); }
  at::Tensor cross() const {  // Sxz
    return has_drift() ? compressed - drift_cross : compressed;
  }
  at::Tensor original() const {  // Sxx
    return has_drift() ? cross() - drift_cross.t() + drift : compressed;
  }
  /// About the means, which a bias can make up for.
  Moments centred() const;
  /// Of the first `count` inputs alone.
  Moments first(std::int64_t count) const;
  /// With one more input that is 1 for every token, in both streams.
  Moments with_constant() const;
};

/// For fitting, and for judging the fit on data it did not see.
struct SplitMoments {
  Moments fit;
  Moments held_out;
};

/// How many of `batches` batches are held out: the last tenth, at least one;
/// with a single batch that one serves for both.
std::size_t held_out_batches(std::size_t batches);
/// The first batch that judges; all after it do too.
std::size_t first_judged(std::size_t batches);

/// The moments of batches 0 .. batches - 1; `inputs` gives what a batch is in
/// both streams, {x, z}, and is asked once for each, in order. Undefined x:
/// moments of one stream. `weights` [windows, T] of all batches' tokens, in
/// order; undefined: 1 each.
SplitMoments split_moments(
    std::size_t batches,
    const std::function<std::pair<at::Tensor, at::Tensor>(std::size_t)>& inputs,
    const at::Tensor& weights = {});

enum class Streams { kBoth, kCompressed };

/// Runs `visit.original` and `working` (the block as compressed so far, with
/// the site's input width unchanged) over their streams, or the latter alone.
SplitMoments collect_moments(const Model& model, const BlockVisit& visit,
                             const Block& working, Site site,
                             Streams streams = Streams::kBoth,
                             const at::Tensor& weights = {});

/// || W X - V Z ||^2 for one W and many V: what does not depend on V is
/// computed once. W, V: fp32 [out, in]. With `outputs` S [out, out] (symmetric
/// and positive definite; output_fisher.h) it is the trace of S times that, in
/// energies too.
class LayerError {
 public:
  LayerError(const at::Tensor& original, const Moments& moments,
             const at::Tensor& outputs = {});

  /// || W X ||^2.
  double energy() const { return energy_; }
  /// The error per || W X ||^2; 0 where that is 0.
  double relative(const at::Tensor& changed) const;
  /// Half the gradient of the error in V, but for S, which would stand before
  /// it: (V - W) Szz + W Sez, [out, in].
  at::Tensor half_gradient(const at::Tensor& changed) const;

 private:
  at::Tensor weighed(const at::Tensor& matrix) const;  // S times it
  double energy_of(const at::Tensor& matrix, const at::Tensor& moments) const;

  at::Tensor outputs_;     // S; undefined: identity
  at::Tensor original_;    // W
  at::Tensor compressed_;  // Szz
  at::Tensor drift_;       // W Sez; undefined: no drift
  double drift_energy_ = 0;
  double energy_ = 0;
};

/// A symmetric positive definite system solved in fp64: [n, n], [n, m]. Adds
/// more to the diagonal until the factorization succeeds.
at::Tensor solve_spd(const at::Tensor& matrix, const at::Tensor& right);

}  // namespace autoglm
