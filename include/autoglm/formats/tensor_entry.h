// One tensor of a file, as its header describes it, before a byte of it is
// read. What every container of the room answers with.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

namespace autoglm {

/// Type, shape and place of one tensor. `begin` and `end` are byte offsets in
/// the file: the first byte of the first element, and the byte after the last
/// one. In safetensors the tensor fills them; a view in a PyTorch file may
/// leave gaps or share them with another tensor.
struct TensorEntry {
  at::ScalarType dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin;
  std::uint64_t end;
};

/// The safetensors name of a dtype ("BF16"), throws kInternal when there is
/// none. Every dtype that a file of this room can hold has one.
std::string safetensors_dtype(at::ScalarType dtype);

}  // namespace autoglm
