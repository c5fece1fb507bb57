// A step of a generation that is the same work for every token: all that
// changes from one to the next is in tensors of the device.
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "autoglm/model/device_kernels.h"
#include "autoglm/model/forward.h"

namespace autoglm {

class RecordedStep {
 public:
  /// why_not_recorded() must have nothing against it. Runs the step once and
  /// records it. Throws what the device says if it cannot be recorded.
  RecordedStep(const Model& model, KvCache cache, std::int64_t batch,
               at::ScalarType dtype);

  /// As Decoder::step. At most as many steps as there is room.
  at::Tensor step(const at::Tensor& ids);

 private:
  void place(const KvCache& cache);
  void make_buffers();
  void rewind();
  void run();

  const Model& model_;
  KvCache cache_;
  at::ScalarType dtype_;
  at::Device device_;
  std::int64_t past_;     // tokens before the first step
  std::int64_t left_;     // steps
  at::Tensor ids_;        // [B, 1]
  at::Tensor columns_;    // [T_all] int64: 0, 1, ...
  at::Tensor unpadded_;   // fp32 [B or 1, 1, 1, T_all]: -infinity for padding
  at::Tensor first_;      // [2, B, 1] positions of the first step; both kinds
  at::Tensor positions_;  // [2, B, 1] of this step
  at::Tensor advance_;    // [2, B, 1] from one step to the next
  at::Tensor logits_;     // [B, V]
  std::unique_ptr<CapturedWork> work_;
};

}  // namespace autoglm
