// The style sheet of report.html.
#pragma once

#include <string_view>

namespace autoglm::report {

std::string_view style_sheet();

}  // namespace autoglm::report
