// The dtypes of safetensors that ATen knows as well.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string_view>

namespace autoglm {

/// The way back from safetensors_dtype(); no value for an unknown name.
std::optional<at::ScalarType> find_safetensors_dtype(std::string_view name);

}  // namespace autoglm
