// The three ways to make one matrix sparse. Weights are fp32 [out, in], the
// results too; where a weight went there is +0.
#pragma once

#include <ATen/ATen.h>

#include "passes/sparsification/pattern.h"

namespace autoglm {

/// The weights of least size go, among those of the whole matrix.
at::Tensor sparsify_by_magnitude(const at::Tensor& weight,
                                 const SparsityPattern& pattern);

/// Wanda (arXiv 2306.11695, section 3): the weights of least |w| ||x|| go,
/// among those of one output. moments: sums of x x' [in, in]; only the diagonal
/// counts. The others stay as they are.
at::Tensor sparsify_by_wanda(const at::Tensor& weight,
                             const at::Tensor& moments,
                             const SparsityPattern& pattern);

/// SparseGPT (arXiv 2301.00774, algorithm 1): columns in order, each weight
/// worth w^2 / U_kk^2, what goes put right in the columns to come. The choice
/// is made when its columns' turn comes: for m of them, or for 128. Deviations:
/// every 128 columns lose as many as the first weights' worth in the whole
/// matrix says, not all the same share, of which columns of unequal energy get
/// too much or too little; a tile is worth the sum of its weights; weights on
/// inputs that are never anything but zero are worth nothing.
at::Tensor sparsify_by_sparsegpt(const at::Tensor& weight,
                                 const at::Tensor& moments,
                                 const SparsityPattern& pattern);

}  // namespace autoglm
