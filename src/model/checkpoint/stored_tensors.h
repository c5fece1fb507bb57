// Tensors of a weight that is stored as codes, checked one by one.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "autoglm/formats/tensor_folder.h"

namespace autoglm {

/// One tensor of a stored weight, its dtype and shape checked. Throws kInput.
at::Tensor read_checked(const TensorFolder& folder, const std::string& name,
                        at::ScalarType dtype,
                        const std::vector<std::int64_t>& shape);
/// The same for scales, which may have any floating dtype.
at::Tensor read_scales(const TensorFolder& folder, const std::string& name,
                       const std::vector<std::int64_t>& shape);
/// Throws kInput: the tensor is not what was expected.
[[noreturn]] void wrong_tensor(const TensorFolder& folder,
                               const std::string& name,
                               const std::string& expected);

/// Numbers packed along the rows of a column, element n at bit n * bits:
/// uint8 [n, columns] <-> int32 [ceil(n * bits / 32), columns].
at::Tensor pack_columns(const at::Tensor& values, int bits);
at::Tensor unpack_columns(const at::Tensor& packed, std::int64_t n, int bits);

}  // namespace autoglm
