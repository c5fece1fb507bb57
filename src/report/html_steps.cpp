#include "report/html_steps.h"

#include "autoglm/core/text.h"
#include "report/notes.h"
#include "report/svg.h"

namespace autoglm::report {
namespace {

std::string note_table(const NoteTable& table) {
  std::string out = fmt::format(
      "<details{}><summary>{} ({} rows)</summary><div class=\"tables\">"
      "<table class=\"narrow\">\n<tr>",
      table.rows.size() <= 8 ? " open=\"open\"" : "", safe_text(table.name),
      table.rows.size());
  for (const std::string& cell : table.header)
    out += "<th>" + safe_text(cell) + "</th>";
  out += "</tr>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row)
      out += "<td>" + safe_text(cell) + "</td>";
    out += "</tr>\n";
  }
  return out + "</table></div></details>\n";
}

std::string step_view(const StepRecord& step, std::size_t number) {
  std::string out = fmt::format(
      "<div class=\"step\">\n<h3>{}. {} {} <span class=\"soft\">{}{}</span>"
      "</h3>\n",
      number, safe_text(step.name), badge(step.status),
      safe_text(format_duration(step.seconds)),
      step.resumed ? ", taken over from an earlier, interrupted run" : "");
  if (!step.error.empty())
    out += "<div class=\"error\">" + safe_text(step.error) + "</div>\n";
  const std::string params = one_line(step.params);
  if (step.params.is_object() && !params.empty())
    out +=
        fmt::format("<p><code>{}{}</code></p>\n",
                    step.name == step.type ? "" : safe_text(step.type) + ": ",
                    safe_text(params));
  const Notes notes = arrange_notes(step.notes);
  if (!notes.lines.empty()) {
    out += "<table class=\"narrow\">\n";
    for (const auto& [name, value] : notes.lines)
      out += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", safe_text(name),
                         safe_text(value));
    out += "</table>\n";
  }
  for (const NoteTable& table : notes.tables) out += note_table(table);
  return out + "</div>\n";
}

}  // namespace

std::string badge(const std::string& status) {
  const char* kind = status == "done"           ? "good"
                     : status == "gate not met" ? "warn"
                     : status == "failed"       ? "bad"
                                                : "warn";
  return fmt::format("<span class=\"badge {}\">{}</span>", kind,
                     safe_text(status));
}

std::string steps_html(const Record& record) {
  std::string out;
  for (std::size_t i = 0; i < record.steps.size(); ++i)
    out += step_view(record.steps[i], i + 1);
  return out;
}

}  // namespace autoglm::report
