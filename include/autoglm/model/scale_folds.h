// Scale folds: what produces an input of a block's matrices is divided by a
// scale per channel, and the columns of everything that reads the input are
// multiplied by it. The block stays the same function; only its numbers are
// easier to round (AWQ, arXiv 2306.00978; SmoothQuant, arXiv 2211.10438).
//
// Legal where the way from producer to readers is linear in each channel:
//
//   norm                   -> all that reads it: the matrices of a part, router
//                             and experts, the indexer. Not where the normed
//                             input is added to the stream itself.
//   rows that make values  -> columns of attention.output; what query heads of
//                             one group share has one scale for all of them
//   rows of up             -> columns of down, where a gate multiplies them;
//                             not through GELU
//
// Queries and keys have no fold: the rotation mixes their channels.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/model/forward.h"

namespace autoglm {

/// All names are canonical, below the block.
struct ScaleFold {
  std::string name;  // where it is read: "attention", "attention.query_b",
                     // "attention.key_value_b", "attention.output", "mlp",
                     // "mlp.down", "mlp.shared.down", "mlp.experts.3.down"
  Site site = Site::kAttention;       // of the readers
  std::optional<std::size_t> expert;  // whose own the fold is
  std::string producer;               // a norm, or a matrix
  at::Tensor rows;                   // of that matrix, int64 [channels], in the
                                     // order of the inputs; undefined: a norm
  std::vector<std::string> readers;  // matrices
  std::vector<std::string> tensors;  // router, indexer: with their ".weight"
  std::int64_t channels = 0;
  /// Every run of so many channels is read `repeat` times in a row; the readers
  /// have channels * repeat inputs.
  std::int64_t run = 0;
  std::int64_t repeat = 1;

  /// Of the channels [channels] -> of the readers' inputs [channels * repeat].
  at::Tensor for_inputs(const at::Tensor& scales) const;
  /// The other way, for numbers of which a channel gets the greatest, or the
  /// mean, of its inputs'.
  at::Tensor greatest_of_inputs(const at::Tensor& values) const;
  at::Tensor mean_of_inputs(const at::Tensor& values) const;
};

/// All legal folds of a block, in forward order; those whose matrices are not
/// all dense are left out. A part that was removed has none.
std::vector<ScaleFold> scale_folds(const Architecture& architecture,
                                   const Block& block);

/// How the matrices of a fold are kept: in their dtype, or, for those that are
/// to be quantized and would else be rounded twice, in fp32.
enum class FoldedMatrices { kSameDtype, kFloat };

/// `block` with the fold applied; what has no part in it keeps its handle.
/// Norms, biases, router and indexer keep their dtype: powers of two change
/// them without a rounding error. With other scales biases are rounded, as are
/// gains, but the columns make up for what that does to gains.
/// scales: [channels] fp32, above 0.
Block apply_fold(const Block& block, const ScaleFold& fold,
                 const at::Tensor& scales,
                 FoldedMatrices matrices = FoldedMatrices::kSameDtype);

}  // namespace autoglm
