// Models of a published shape with random weights: speed and memory can be
// measured without the checkpoint. What they say is noise.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

/// Bits of the matrices of a block's parts: 2..8, or 16: bf16.
struct PartBits {
  int attention = 16, mlp = 16;
};

struct RandomWeightOptions {
  std::int64_t group_size = 64;  // of 2..8 bits; 0: one scale per row
  int head_bits = 16;            // of head and embedding, 2..8 or 16
  std::uint64_t seed = 0;
};

/// A model with the widths of `architecture`, and `bits` for each block.
/// Weights are independent and of such a size that activations stay finite;
/// quantized ones have random codes on a symmetric grid. Throws kConfig for a
/// group size that does not divide a matrix's columns.
Model random_model(const Architecture& architecture,
                   const std::vector<PartBits>& bits,
                   const RandomWeightOptions& options = {});

/// "glm-4-9b", "glm-10b", "glm-edge-1.5b", "glm-4.5-air", "glm-4.5-air-layer"
/// (one block with routed experts and next to no vocabulary).
std::vector<std::string> published_shapes();

struct RandomModelOptions : RandomWeightOptions {
  /// Blocks, the last ones of the shape; 0: all. A slice gets the same share of
  /// the vocabulary, so that blocks and head keep their shares of the time.
  std::int64_t layers = 0;
  int bits = 16;  // of the blocks' matrices
};

/// Throws kConfig for a name that is not known and for more layers than the
/// shape has.
Model random_model(const std::string& shape, const RandomModelOptions& options);

}  // namespace autoglm
