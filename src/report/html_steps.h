// The steps of a run as HTML: what each did, with which parameters, how long,
// and what it noted.
#pragma once

#include <string>

#include "autoglm/pipeline/record.h"

namespace autoglm::report {

/// The status of a run or a step as a coloured label.
std::string badge(const std::string& status);

/// One <div> per step.
std::string steps_html(const Record& record);

}  // namespace autoglm::report
