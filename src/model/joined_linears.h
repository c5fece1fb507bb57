// Matrices that read the same vectors, one behind the other in memory: each is
// still a matrix of its own, but one kernel may multiply with all of them.
#pragma once

#include <optional>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

/// Copies quantized matrices of one form, and their biases, behind one another.
/// They stay as they are where they differ in more than their rows, or one has
/// no bias and another does.
void join(const std::vector<Linear*>& linears);

/// All rows of matrices that lie so, or nothing.
std::optional<Linear> joined(const std::vector<const Linear*>& linears);

}  // namespace autoglm
