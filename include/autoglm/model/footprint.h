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
  /// `mlp` holds dense and shared MLPs, `experts` the routed ones; learned
  /// positions count as embedding, indexers as attention.
  Size embedding, attention, mlp, experts, router, norms, head, extra;
  std::vector<Size> layers;
  Size total() const;
  /// Parameters that take part in a token: of the routed experts only those
  /// it is sent to.
  std::uint64_t active_parameters = 0;
  /// Bytes a decode step reads: all but the embedding table (one row of it)
  /// and unused experts, plus the head, which is read whole also when tied.
  std::uint64_t bytes_per_token = 0;
};

Footprint footprint(const Model& model);

/// Bytes of weights that one step over `tokens` tokens reads: bytes_per_token
/// and the further experts that they are sent to, if these are chosen evenly.
std::uint64_t bytes_read(const Model& model, std::int64_t tokens);

/// Bytes that a token adds to the key/value cache, with `element` bytes for
/// each number that is not kept in kv_cache_bits.
std::uint64_t cache_bytes_per_token(const Architecture& architecture,
                                    std::int64_t element);

}  // namespace autoglm
