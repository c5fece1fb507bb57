// Gains of norms over fewer channels, by weights alone.
#pragma once

#include <ATen/ATen.h>

#include "autoglm/model/model.h"

namespace autoglm {

/// Multiplies the gains in `narrow`, which has the channels `kept` of `model`,
/// by sqrt(mean square of the channels that stay / of all): of the output of a
/// part for the norm behind it, otherwise of the stream. A channel of the
/// stream is taken to be as large as what was added to it: its column of the
/// embedding (mean square), and its rows of what writes (sum of squares, as if
/// inputs were independent and of size 1) or the gain of the norm behind that.
/// Exact where nothing is ever added to the channels that went.
void scale_norms(const Model& model, const at::Tensor& kept, Model& narrow);

}  // namespace autoglm
