// The comparison of a report as a text table, for a terminal.
#include "autoglm/core/text.h"
#include "autoglm/report/report.h"
#include "report/facts.h"

namespace autoglm {

std::string report_summary(const Record& record) {
  TextTable table({"", "before", report::last_state_name(record), "change"});
  for (const report::Comparison& row : report::compare(record))
    table.add_row({row.simulated ? row.measure + " (simulated)" : row.measure,
                   row.before, row.after, row.change});
  return table.text();
}

}  // namespace autoglm
