// Results on stdout: the one place that prints. A full pipe or disk there is
// noticed and becomes an error.
#pragma once

#include <string_view>

#include "autoglm/core/json.h"
#include "autoglm/eval/scorecard.h"

namespace autoglm::cli {

void print(std::string_view text);
void print_json(const Json& json);

/// The measures of one scorecard, one a line.
std::string scorecard_text(const Scorecard& scorecard);

}  // namespace autoglm::cli
