// What a model loses with a whole block, or with the attention or the MLP of
// one.
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/model/depth.h"

namespace autoglm {

/// What is removed at once.
struct RemovalUnit {
  std::size_t layer = 0;
  std::optional<BlockPart> part = {};  // none: the whole block
};

/// "layers.3", "layers.3.mlp".
std::string unit_name(const RemovalUnit& unit);

/// The block with the unit emptied: what is left of it runs as if the unit were
/// removed, and the blocks keep their numbers.
Block without_unit(const Block& block, const RemovalUnit& unit);

/// 1 - cos between what enters and what leaves each unit, after the addition to
/// the residual stream, mean over the positions that predict text (ShortGPT,
/// arXiv 2403.03853, equation 1; of parts as of blocks). Units in forward
/// order. windows: [windows, T] int64 with `prefix` tokens before each text, on
/// the model's device. One forward pass.
std::vector<double> block_influence(const Model& model,
                                    const at::Tensor& windows,
                                    std::int64_t prefix,
                                    const std::vector<RemovalUnit>& units);

/// arccos(cos) / pi between what enters block l and what leaves block
/// l + count - 1, for every l that has so many blocks after it (arXiv
/// 2403.17887, equation 5; the mean is over all positions that predict text,
/// not over the last one of each window). One forward pass; memory: the
/// activations of count + 1 borders.
std::vector<double> angular_distances(const Model& model,
                                      const at::Tensor& windows,
                                      std::int64_t prefix, std::size_t count);

}  // namespace autoglm
