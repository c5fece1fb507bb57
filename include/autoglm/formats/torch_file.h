// Files of torch.save: `pytorch_model.bin` and its shards, `.pt`. The pickle
// inside is read by a machine of our own that knows tensors and containers and
// nothing else, so a hostile file can be refused but cannot run anything.
//
// Formats: the zip of PyTorch 1.6 and later (one root folder with `data.pkl`
// and `data/<key>`), caffe2/serialize/inline_container.h; and the series of
// pickles and storages before it, torch/serialization.py, `_legacy_load`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "autoglm/core/file.h"
#include "autoglm/formats/tensor_entry.h"

namespace autoglm {

/// One file. The tensors are those of the mapping at the top or, in a
/// training checkpoint, of the mapping under `module`, `state_dict` or
/// `model`; everything beside them is ignored. Zip records, pickle, storage
/// sizes, offsets and strides are all checked on open, without reading tensor
/// data. Throws kInput with the file and, where there is one, the tensor, the
/// opcode or the global that is refused.
class TorchFile {
 public:
  static TorchFile open(const std::filesystem::path& file);

  /// True if the bytes start like a file of torch.save, new or old.
  static bool recognizes(const MappedFile& file);

  const std::map<std::string, TensorEntry>& entries() const { return entries_; }
  /// A read-only view into the mapping with the strides of the file; views of
  /// one storage share memory. A packed copy of its bytes when they are not
  /// aligned for the dtype. Never write through it. Throws kInput if missing.
  at::Tensor tensor(const std::string& name) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  explicit TorchFile(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  std::map<std::string, TensorEntry> entries_;
  // Of the tensors that are not simply row-major.
  std::map<std::string, std::vector<std::int64_t>> strides_;
};

}  // namespace autoglm
