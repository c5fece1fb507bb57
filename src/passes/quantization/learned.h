// What learning moves: the codes, scales and zero points of a matrix on its
// grid, and vectors beside it. The weights B that the grid stands for stay
// where they are; V moves them in grid steps (the perturbation of AdaQuant,
// arXiv 2006.10518):
//
//   Q = s (c - z),  c = clamp(round(B / s + z + V), 0, L)
//
// so that another scale means another rounding of the same weights, not other
// weights. The gradients are written out by hand, so that no graph is kept for
// them; with the straight-through estimator (for the scale LSQ, arXiv
// 1902.08153) and I = 1 where c is not clamped, else 0
//
//   dQ/dV = s I,  dQ/dlog|s| = Q - B I,  dQ/dz = s (I - 1)
#pragma once

#include <ATen/ATen.h>

#include "passes/quantization/quantizer.h"

namespace autoglm {

class LearnedMatrix {
 public:
  /// Starts from `start`, at its positions where it has them.
  LearnedMatrix(const Rounded& start, const Grid& grid);

  /// The parameters: moves V [out, in] and log-scales [out, groups], zero
  /// points [out, groups] where the grid is asymmetric, else undefined.
  const at::Tensor& moves() const { return moves_; }
  const at::Tensor& log_scales() const { return log_scales_; }
  const at::Tensor& zeros() const { return zeros_; }

  /// What is stored now, and the numbers that stands for, fp32 [out, in].
  Rounded rounded() const;
  at::Tensor value() const { return dequantize(rounded(), grid_); }

  QuantizedWeight packed() const { return pack(rounded(), grid_); }

  /// From the gradient of value() [out, in], and that value, the gradients of
  /// the parameters, into their grad().
  void set_gradients(const at::Tensor& of_value, const at::Tensor& value);
  /// Keeps moves within one grid step and zero points on the grid.
  void settle();

 private:
  at::Tensor scales() const;
  at::Tensor zero_points() const;
  /// B / s + z + V, in groups.
  at::Tensor positions() const;

  Grid grid_;
  at::Tensor base_;    // B, in groups
  at::Tensor signs_;   // of the scales
  at::Tensor middle_;  // zero points of a symmetric grid
  at::Tensor moves_, log_scales_, zeros_;
};

/// The scales of a matrix that is packed already; its codes stay.
class LearnedScales {
 public:
  explicit LearnedScales(const QuantizedWeight& start);

  const at::Tensor& log_scales() const { return log_scales_; }  // [out, groups]
  QuantizedWeight packed() const;
  at::Tensor value() const { return to_dense(packed(), at::kFloat); }
  void set_gradients(const at::Tensor& of_value, const at::Tensor& value);

 private:
  QuantizedWeight start_;
  at::Tensor signs_, log_scales_;
};

/// A vector whose entries move by shares of their own size (norm gains), or of
/// their mean size (biases).
class LearnedVector {
 public:
  enum class Unit { kEntry, kMean };
  LearnedVector(const at::Tensor& start, Unit unit);

  const at::Tensor& moves() const { return moves_; }  // the parameter, [n]
  at::Tensor stored() const;  // in the dtype it came with
  void set_gradients(const at::Tensor& of_value);

 private:
  at::Tensor start_, unit_, moves_;
};

}  // namespace autoglm
