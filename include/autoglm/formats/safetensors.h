// safetensors files and the folders written with them (shards + index): named
// tensors, read through a memory map, written atomically. Knows nothing of GLM.
// Format: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "autoglm/core/file.h"
#include "autoglm/formats/tensor_entry.h"
#include "autoglm/formats/tensor_folder.h"

namespace autoglm {

/// One file. Everything the header claims is checked on open: lengths,
/// offsets, overlaps, holes, dtypes, shapes, duplicates. Throws kInput with
/// the file and, where there is one, the tensor.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& file);

  const std::map<std::string, TensorEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const {
    return metadata_;
  }
  /// A read-only view into the mapping (a copy when the data is not aligned
  /// for its dtype). Never write through it. Throws kInput if missing.
  at::Tensor tensor(const std::string& name) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// Writes one file atomically. Order: largest alignment first, then by name,
/// header padded to 8 bytes, so that all data is aligned. Tensors may be on
/// any device and non-contiguous. `metadata` gets {"format": "pt"} added.
void write_safetensors(
    const std::filesystem::path& file,
    const std::vector<std::pair<std::string, at::Tensor>>& tensors,
    std::map<std::string, std::string> metadata = {});

/// Writes tensors as they come into shards of at most `shard_bytes` (one
/// larger tensor gets a shard of its own), then the index. With one shard the
/// file is `model.safetensors` and there is no index. Call finish() at the
/// end; without it the temporary files are removed.
class TensorFolderWriter {
 public:
  explicit TensorFolderWriter(std::filesystem::path folder,
                              std::uint64_t shard_bytes = 5'000'000'000);
  ~TensorFolderWriter();
  TensorFolderWriter(const TensorFolderWriter&) = delete;
  TensorFolderWriter& operator=(const TensorFolderWriter&) = delete;

  /// Tensors of one group (a weight's codes, scales, shape) stay in one shard.
  void add(const std::vector<std::pair<std::string, at::Tensor>>& group);
  void add(const std::string& name, const at::Tensor& tensor);
  /// Returns the total bytes of tensor data.
  std::uint64_t finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace autoglm
