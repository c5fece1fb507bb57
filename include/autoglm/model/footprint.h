// How large a model is, part by part.
#pragma once

#include <cstdint>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

struct Size {
  std::uint64_t parameters = 0;  // logical: out * in, not packed words
  std::uint64_t bytes = 0;       // of the tensors that hold them
  Size& operator+=(const Size& other);
};

struct Footprint {
  Size embedding, attention, mlp, norms, head, extra;
  std::vector<Size> layers;
  Size total() const;
  /// Bytes a decode step reads: all but the embedding table (one row of it)
  /// plus the head, which is read whole also when tied.
  std::uint64_t bytes_per_token = 0;
};

Footprint footprint(const Model& model);

}  // namespace autoglm
