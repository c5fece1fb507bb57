// The steps of a generation: one token of each sequence after the other. On a
// device that can record its work (model/device_kernels.h) a step is recorded
// once and done again for every token: nothing is allocated, and the host only
// says when. Everywhere else a step is a call of forward().
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>

#include "autoglm/model/forward.h"

namespace autoglm {

/// Why a step of this model cannot be recorded after what is in `cache`; empty
/// if it can: no device that records, no room for a few tokens more in
/// KvCache::expected, experts or tokens that the host selects, learned
/// positions that may end before.
std::string why_not_recorded(const Model& model, const KvCache& cache,
                             at::Device device);

class RecordedStep;

class Decoder {
 public:
  /// Goes on after the tokens in `cache`, which may be none, up to
  /// KvCache::expected in all. The embedding's device and `dtype` are those of
  /// the work; `batch` sequences. A step that cannot be recorded is logged,
  /// once per reason.
  Decoder(const Model& model, KvCache cache, std::int64_t batch,
          at::ScalarType dtype);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// ids [B, 1] int64 -> logits [B, V] of what comes after them, which the next
  /// step may write over. No gradients.
  at::Tensor step(const at::Tensor& ids);

  bool is_recorded() const { return recorded_ != nullptr; }

 private:
  Model model_;
  KvCache cache_;
  ForwardOptions options_;
  std::unique_ptr<RecordedStep> recorded_;
};

}  // namespace autoglm
