// A strict reader of markup: enough XML to say that a page is well formed.
#pragma once

#include <string>
#include <vector>

namespace autoglm {

/// What is wrong with the first element, attribute or entity that is not well
/// formed; empty when all is. Knows no DTD: the HTML doctype is skipped.
std::string markup_problem(const std::string& text);

}  // namespace autoglm
