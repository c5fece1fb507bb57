// The facts a pass noted are free-form JSON; a report shows them as lines and
// small tables.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "autoglm/core/json.h"

namespace autoglm::report {

struct NoteTable {
  std::string name;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

struct Notes {
  std::vector<std::pair<std::string, std::string>> lines;  // name, value
  std::vector<NoteTable> tables;
};

/// Scalars and short lists become lines; a list of objects, an object of
/// objects or an object of many numbers becomes a table.
Notes arrange_notes(const Json& notes);

/// A pass's parameters on one line: "bits: 8, method: adaquant".
std::string one_line(const Json& json);

}  // namespace autoglm::report
