// A pickle machine for files of torch.save that cannot run anything: it knows
// numbers, text, containers and the few globals that tensors are made of, and
// refuses every other opcode and global by name.
// Opcodes: CPython, Lib/pickletools.py (protocols 2 to 5). What tensors look
// like: torch/_utils.py, `_rebuild_tensor_v2`; torch/serialization.py,
// `persistent_id`.
//
// Values live in one table and refer to each other by number. So a pickle that
// nests a million lists, refers to itself or doubles a list thirty times costs
// memory linear in its length and no recursion, also when it is freed.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

using PickleId = std::uint32_t;

enum class PickleKind : std::uint8_t {
  kNone,
  kBool,     // number
  kInt,      // number
  kLong,     // more than 64 bits: its little-endian bytes in text
  kFloat,    // its value is not kept
  kText,     // text: UTF-8 as in the file, not checked
  kBytes,    // text
  kTuple,    // items
  kList,     // items
  kDict,     // items: key, value, key, value ...
  kGlobal,   // number: index of the known globals
  kStorage,  // number: index of Pickle::storages
  kTensor,   // number: index of Pickle::tensors
  kOpaque,   // harmless and of no use here: sets, numpy arrays
};

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  std::int64_t number = 0;
  std::string_view text;  // points into the pickle
  std::vector<PickleId> items;
};

struct PickledStorage {
  std::string_view key;
  at::ScalarType dtype;  // kByte for an untyped storage
  bool untyped;
  std::int64_t count;  // claimed elements, not checked
};

/// Only the kinds of the fields are checked: a tensor that nobody asks for may
/// be as wrong as it likes.
struct PickledTensor {
  std::size_t storage;     // index of Pickle::storages
  at::ScalarType dtype;    // that of the storage unless that is untyped
  std::int64_t offset;     // elements
  PickleId size, strides;  // tuples; their items may be of any kind
};

struct Pickle {
  std::vector<PickleValue> values;
  std::vector<PickledStorage> storages;
  std::vector<PickledTensor> tensors;
  PickleId top = 0;
  std::size_t length = 0;  // bytes up to and with STOP
};

/// Reads the pickle that `bytes` starts with; they must outlive the result.
/// Throws kInput "source: byte 17: ..." for an opcode or a global that is not
/// known, a damaged or truncated pickle, or more than 4 million values.
Pickle read_pickle(std::string_view bytes, const std::string& source);

}  // namespace autoglm
