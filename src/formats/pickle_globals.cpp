#include "formats/pickle_globals.h"

#include <iterator>
#include <string>

#include "autoglm/core/text.h"

namespace autoglm {
namespace {

using enum GlobalKind;

// The inert ones come with the random states of a training checkpoint (GLM of
// 2021, utils.py, `save_ds_checkpoint`: python, numpy and torch generators
// beside the weights) and with DeepSpeed's sets.
constexpr PickleGlobal kGlobals[] = {
    {"torch._utils", "_rebuild_tensor_v2", kRebuildTensor},
    {"torch._utils", "_rebuild_tensor", kRebuildTensor},
    {"torch._utils", "_rebuild_tensor_v3", kRebuildTensorV3},
    {"torch._utils", "_rebuild_parameter", kRebuildParameter},
    {"torch._utils", "_rebuild_parameter_with_state", kRebuildParameter},
    {"collections", "OrderedDict", kOrderedDict},
    {"torch", "Size", kSize},
    {"torch", "HalfStorage", kStorageType, at::kHalf},
    {"torch", "BFloat16Storage", kStorageType, at::kBFloat16},
    {"torch", "FloatStorage", kStorageType, at::kFloat},
    {"torch", "DoubleStorage", kStorageType, at::kDouble},
    {"torch", "LongStorage", kStorageType, at::kLong},
    {"torch", "IntStorage", kStorageType, at::kInt},
    {"torch", "ShortStorage", kStorageType, at::kShort},
    {"torch", "CharStorage", kStorageType, at::kChar},
    {"torch", "ByteStorage", kStorageType, at::kByte},
    {"torch", "BoolStorage", kStorageType, at::kBool},
    {"torch", "ComplexFloatStorage", kStorageType, at::kComplexFloat},
    {"torch.storage", "UntypedStorage", kUntypedStorage},
    {"torch", "UntypedStorage", kUntypedStorage},
    {"torch", "float16", kDtype, at::kHalf},
    {"torch", "bfloat16", kDtype, at::kBFloat16},
    {"torch", "float32", kDtype, at::kFloat},
    {"torch", "float64", kDtype, at::kDouble},
    {"torch", "int64", kDtype, at::kLong},
    {"torch", "int32", kDtype, at::kInt},
    {"torch", "int16", kDtype, at::kShort},
    {"torch", "int8", kDtype, at::kChar},
    {"torch", "uint8", kDtype, at::kByte},
    {"torch", "uint16", kDtype, at::kUInt16},
    {"torch", "uint32", kDtype, at::kUInt32},
    {"torch", "uint64", kDtype, at::kUInt64},
    {"torch", "bool", kDtype, at::kBool},
    {"torch", "complex64", kDtype, at::kComplexFloat},
    {"torch", "float8_e4m3fn", kDtype, at::kFloat8_e4m3fn},
    {"torch", "float8_e5m2", kDtype, at::kFloat8_e5m2},
    {"torch", "device", kInert},
    {"__builtin__", "set", kInert},
    {"builtins", "set", kInert},
    {"_codecs", "encode", kInert},
    {"numpy", "dtype", kInert},
    {"numpy", "ndarray", kInert},
    {"numpy.core.multiarray", "_reconstruct", kInert},
    {"numpy.core.multiarray", "scalar", kInert},
    {"numpy._core.multiarray", "_reconstruct", kInert},
    {"numpy._core.multiarray", "scalar", kInert},
};

struct OpcodeName {
  unsigned char code;
  std::string_view name;
};

// Those the machine refuses; the others it reads.
constexpr OpcodeName kRefused[] = {
    {'F', "FLOAT"},       {'I', "INT"},          {'L', "LONG"},
    {'P', "PERSID"},      {'S', "STRING"},       {'V', "UNICODE"},
    {'d', "DICT"},        {'g', "GET"},          {'i', "INST"},
    {'l', "LIST"},        {'o', "OBJ"},          {'p', "PUT"},
    {0x81, "NEWOBJ"},     {0x82, "EXT1"},        {0x83, "EXT2"},
    {0x84, "EXT4"},       {0x91, "FROZENSET"},   {0x92, "NEWOBJ_EX"},
    {0x96, "BYTEARRAY8"}, {0x97, "NEXT_BUFFER"}, {0x98, "READONLY_BUFFER"},
};

}  // namespace

std::optional<std::size_t> find_global(std::string_view module,
                                       std::string_view name) {
  for (std::size_t i = 0; i < std::size(kGlobals); ++i)
    if (kGlobals[i].name == name && kGlobals[i].module == module) return i;
  return std::nullopt;
}

const PickleGlobal& known_global(std::size_t index) { return kGlobals[index]; }

std::string opcode_name(unsigned char opcode) {
  for (const OpcodeName& refused : kRefused)
    if (refused.code == opcode) return std::string(refused.name);
  return fmt::format("{:#04x}", opcode);
}

}  // namespace autoglm
