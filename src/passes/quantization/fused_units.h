// Matrices that get their width together. Runtimes join query, key and value
// into one matrix, gate and up likewise, and all routed experts of a layer, and
// refuse to load parts that are packed in different ways (vLLM: "All MoE
// projections need to have same quantization scheme"); of latent attention it
// is query_a and key_value_a. A shared expert is an MLP of its own.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

struct FusedUnit {
  std::string name;  // "layers.3.attention.query+key+value", "head"
  /// -1 for the embedding, the number of blocks for the head.
  std::int64_t layer = 0;
  std::vector<std::string> matrices;  // canonical names
  std::vector<int> widths;            // to choose from
};

/// Widths to choose from for each matrix, ascending, by canonical name. Just
/// one: nothing is to be chosen.
using Widths = std::map<std::string, std::vector<int>>;

/// The units of the matrices in `widths`, in forward order. Matrices that have
/// different widths to choose from are no unit.
std::vector<FusedUnit> fused_units(const Model& model, const Widths& widths);

}  // namespace autoglm
