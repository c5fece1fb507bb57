// How much a model depends on each of its blocks and parts, as plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/core/json.h"

namespace autoglm {

/// One part of a block. Divergences are means over text positions of
/// KL(original || changed), in nats.
struct PartSensitivity {
  std::string part;  // "attention" or "mlp"
  std::uint64_t parameters = 0;
  /// Mean over the weights of the part's matrices of |w * dL/dw|, where L is
  /// the mean loss over the data: the first-order term of what zeroing a weight
  /// changes (arXiv 1906.10771, equation 8, with the absolute value).
  double taylor = 0;
  double influence = 0;       // 1 - cos of the stream before and after it
  double removed = 0;         // divergence without the part
  std::optional<double> cut;  // with some heads or channels less (`cut_to`)
  std::int64_t cut_from = 0, cut_to = 0;  // query heads, or FFN width
  std::optional<double> four_bits;        // rounded to nearest; none: quantized
  /// `removed` less the mean of the same part in the blocks before and after:
  /// below 0, it matters less than what stands beside it.
  double trend = 0;
  bool redundant = false;  // `removed` is below the threshold
};

struct BlockSensitivity {
  std::size_t layer = 0;
  double influence = 0;  // of the whole block
  double removed = 0;
  double trend = 0;
  bool redundant = false;
  std::vector<PartSensitivity> parts;  // those that it has
};

struct SensitivityRecord {
  std::string model, data;
  std::int64_t windows = 0, length = 0;
  double threshold = 0;  // nats, of `redundant`
  double loss = 0;       // mean over text positions, in nats
  std::vector<BlockSensitivity> blocks;
};

/// Fills `trend` and `redundant` from `removed` and `threshold`.
void compare_neighbours(SensitivityRecord& record);

Json to_json(const SensitivityRecord& record);

}  // namespace autoglm
