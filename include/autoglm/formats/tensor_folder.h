// The weights of a checkpoint folder, whatever files they are in: names in,
// read-only tensors out.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "autoglm/formats/tensor_entry.h"

namespace autoglm {

/// All tensors of a folder. The first of these that is there holds them:
///
///     model.safetensors
///     model.safetensors.index.json        names the shards
///     pytorch_model.bin
///     pytorch_model.bin.index.json        names the shards
///     mp_rank_00_model_states.pt          DeepSpeed, the GLMs of 2021
///
/// Each file is read as what it is (safetensors, torch.save), not as what its
/// name promises. All shards are opened at once, so a missing or lying one is
/// found before any tensor is used; no tensor data is read. Copies share.
class TensorFolder {
 public:
  /// Throws kInput: no weights, missing shard, a shard name with a path, a
  /// tensor that is not in the shard the index names, a file that lies.
  static TensorFolder open(const std::filesystem::path& folder);

  /// A single file as if it were a folder (golden values, id files).
  static TensorFolder open_file(const std::filesystem::path& file);

  /// True if the folder has one of the files above.
  static bool has_weights(const std::filesystem::path& folder);

  std::vector<std::string> names() const;  // sorted
  bool contains(const std::string& name) const;
  // These throw kInput if there is no such tensor.
  const TensorEntry& entry(const std::string& name) const;
  /// A read-only view into the mapped file, possibly strided; it keeps the
  /// mapping alive. Never write through it.
  at::Tensor tensor(const std::string& name) const;
  /// The shard a tensor lies in, for messages.
  const std::filesystem::path& file_of(const std::string& name) const;
  /// Shard file names in order, for a writer that keeps the layout.
  std::vector<std::string> shards() const;

 private:
  struct Data;
  std::shared_ptr<const Data> data_;
};

}  // namespace autoglm
