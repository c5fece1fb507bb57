// The globals a file of weights may name, and what each means here. None of
// them is called: the machine knows what each would have made.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string_view>

namespace autoglm {

enum class GlobalKind {
  kStorageType,       // dtype
  kUntypedStorage,    // bytes
  kDtype,             // dtype
  kOrderedDict,       // ()
  kSize,              // (tuple)
  kRebuildTensor,     // (storage, offset, size, strides, ...)
  kRebuildTensorV3,   // (storage, offset, size, strides, _, _, dtype, ...)
  kRebuildParameter,  // (tensor, ...)
  kInert,             // whatever it makes is not looked at
};

struct PickleGlobal {
  std::string_view module;
  std::string_view name;
  GlobalKind kind;
  at::ScalarType dtype = at::kByte;
};

/// Index of a known global, for known_global(); nothing for any other.
std::optional<std::size_t> find_global(std::string_view module,
                                       std::string_view name);
const PickleGlobal& known_global(std::size_t index);

/// "INST" for 'i', "opcode 0xff" for a byte that is none.
std::string opcode_name(unsigned char opcode);

}  // namespace autoglm
