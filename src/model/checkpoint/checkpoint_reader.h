// The tensors of one checkpoint folder: each asked for by name and shape,
// checked, and remembered as used.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "autoglm/core/progress.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/checkpoint.h"
#include "model/checkpoint/stored_quantization.h"

namespace autoglm {

class CheckpointReader {
 public:
  /// `quantization` may be a null pointer: all weights are dense.
  CheckpointReader(const TensorFolder& folder,
                   const StoredQuantization* quantization, ReadDepth depth);

  /// True if there is a weight under `module`, in whatever form.
  bool has_weight(const std::string& module) const;

  // All throw kInput with file and tensor.
  Weight weight(const std::string& module, std::int64_t out, std::int64_t in,
                bool embedding = false);
  /// A bias that the configuration does not promise is read if it is there.
  Linear linear(const std::string& module, std::int64_t out, std::int64_t in,
                bool bias);
  at::Tensor tensor(const std::string& name,
                    const std::vector<std::int64_t>& shape);
  Block block(const Architecture& architecture, std::size_t layer);

  /// What nobody asked for.
  std::map<std::string, at::Tensor> rest() const;

 private:
  // Newer software stacks the experts of a block: a view of one of them.
  bool stacked_expert(const std::string& prefix, std::int64_t experts,
                      const BlockShapes::Matrix& matrix, Linear& linear);
  void warn_not_finite(const at::Tensor& tensor, const std::string& name);

  const TensorFolder& folder_;
  const StoredQuantization* quantization_;
  std::set<std::string> used_;
  std::unique_ptr<Progress> progress_;  // null pointer: values are not read
};

}  // namespace autoglm
