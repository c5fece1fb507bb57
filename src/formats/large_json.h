// JSON objects with very many keys: headers and indexes of large checkpoints.
// core's Json keeps the order of keys in a list, where adding the n-th key
// looks at all before it: seconds with 50,000 tensors.
#pragma once

#include <string>
#include <string_view>

#include "autoglm/core/json.h"

namespace autoglm {

/// Keys are sorted and found in logarithmic time.
using LargeJson = nlohmann::json;

/// As parse_json: throws kInput on a syntax error (with its position), a
/// duplicate key or nesting beyond 256 levels.
LargeJson parse_large_json(std::string_view text, const std::string& source);

}  // namespace autoglm
