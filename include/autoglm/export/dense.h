// Export to plain floating point, so that any loader reads the result.
#pragma once

#include <string>

#include "autoglm/model/model.h"

namespace autoglm {

/// A copy with every weight dense; activations, keys and values are then no
/// longer rounded. `dtype`: "bf16", "fp16", "fp32", or "auto":
/// the dtype the model's scales and norms already have. The
/// quantization_config is taken out of the configuration and torch_dtype set.
/// Throws kNumeric when a value does not fit the dtype (fp16 overflow).
Model dense_model(const Model& model, const std::string& dtype);

}  // namespace autoglm
