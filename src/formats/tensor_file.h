// One file of tensors of either kind, so that a folder need not know formats.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <variant>

#include "autoglm/formats/safetensors.h"
#include "autoglm/formats/tensor_entry.h"
#include "autoglm/formats/torch_file.h"

namespace autoglm {

class TensorFile {
 public:
  /// Chooses by content; a file that is of no kind is refused as what its
  /// extension promised.
  static TensorFile open(const std::filesystem::path& file);

  const std::map<std::string, TensorEntry>& entries() const;
  at::Tensor tensor(const std::string& name) const;
  const std::filesystem::path& path() const;

 private:
  using Content = std::variant<SafetensorsFile, TorchFile>;
  explicit TensorFile(Content content) : content_(std::move(content)) {}
  Content content_;
};

}  // namespace autoglm
