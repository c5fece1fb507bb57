// report.md: the facts of report.html for a terminal, a pull request, a wiki.
#include <algorithm>
#include <cctype>
#include <map>

#include "autoglm/core/text.h"
#include "autoglm/report/report.h"
#include "report/charts.h"
#include "report/facts.h"
#include "report/notes.h"

namespace autoglm::report {
namespace {

bool is_letter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

// Text inside a Markdown paragraph or cell: no markup, no line breaks. What
// Markdown takes literally anyway (names_with_underscores, "<= 2") stays
// readable as it is.
std::string plain(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const char before = i > 0 ? text[i - 1] : ' ';
    const char after = i + 1 < text.size() ? text[i + 1] : ' ';
    if (c == '\n' || c == '\r') {
      out += ' ';
    } else if (c == '<' && (is_letter(after) || after == '/' || after == '!')) {
      out += "&lt;";
    } else {
      const bool inside_word = is_letter(before) && is_letter(after);
      if (c == '*' || c == '`' || c == '[' || c == '\\' ||
          (c == '_' && !inside_word))
        out += '\\';
      out += c;
    }
  }
  return out;
}

// Text between backquotes, or fenced; the fence is longer than any inside.
std::string fenced(const std::string& text, const char* language) {
  std::size_t longest = 2, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fence + language + "\n" + text + (text.ends_with('\n') ? "" : "\n") +
         fence + "\n\n";
}

std::string before_and_after(const Record& record) {
  const std::vector<Comparison> rows = compare(record);
  if (rows.empty()) return "No pass finished: nothing to compare.\n\n";
  TextTable table(
      {"measure", "better", "before", last_state_name(record), "change"});
  for (const Comparison& row : rows)
    table.add_row({row.measure, row.better, row.before,
                   row.after + (row.simulated ? " (simulated)" : ""),
                   row.change});
  std::string out = table.markdown() + "\n";
  const std::string note = evaluation_note(record);
  if (!note.empty()) out += plain(note) + "\n\n";
  return out;
}

std::string constraint_table(const Record& record) {
  if (record.constraints.empty()) return "";
  TextTable table({"constraint", "limit", "measured", "", "margin"});
  for (const ConstraintRecord& constraint : record.constraints) {
    const Verdict v = judge(constraint);
    table.add_row({plain(v.measure), plain(v.limit), v.measured,
                   v.met ? "met" : "**NOT MET**", v.margin});
  }
  return "## Constraints\n\n" + table.markdown() + "\n";
}

std::string size_table(const Record& record) {
  if (record.before.parts.empty()) return "";
  std::vector<std::string> columns = {"part", "original"};
  std::vector<const ModelRecord*> models = {&record.before};
  for (const StepRecord& step : record.steps) {
    if (!step.after) continue;
    columns.push_back(plain(step.name));
    models.push_back(&*step.after);
  }
  TextTable table(columns);
  for (const PartStyle& part : part_styles()) {
    std::vector<std::string> row = {part.part};
    bool any = false;
    for (const ModelRecord* model : models) {
      std::uint64_t bytes = 0;
      for (const auto& [name, value] : model->parts)
        if (name == part.part) bytes += value;
      any = any || bytes > 0;
      row.push_back(format_bytes(bytes));
    }
    if (any) table.add_row(row);
  }
  std::vector<std::string> total = {"all"};
  for (const ModelRecord* model : models)
    total.push_back(format_bytes(model->weight_bytes));
  table.add_row(total);
  return "## Size\n\n" + table.markdown() + "\n";
}

std::string loss_table(const Record& record) {
  TextTable table({"step", "perplexity", "bits per byte", "KL (nats)",
                   "top-1 agreement", "accuracy retention", "time"});
  if (record.before.scorecard) {
    const Scorecard& s = *record.before.scorecard;
    table.add_row({"original", fmt::format("{:.3f}", s.perplexity),
                   fmt::format("{:.4f}", s.bits_per_byte), "0", percent(1),
                   percent(1), ""});
  }
  bool any = false;
  for (const StepRecord& step : record.steps) {
    if (!step.after || !step.after->scorecard) continue;
    any = true;
    const Scorecard& s = *step.after->scorecard;
    const auto& d = s.divergence;
    table.add_row({plain(step.name), fmt::format("{:.3f}", s.perplexity),
                   fmt::format("{:.4f}", s.bits_per_byte),
                   d ? fmt::format("{:.3g}", d->kl) : "",
                   d ? percent(d->top1_agreement) : "",
                   d ? percent(d->accuracy_retention) : "",
                   format_duration(step.seconds)});
  }
  return any ? "## Loss after each step\n\n" + table.markdown() + "\n" : "";
}

// Experts of one block with the same shape and format as one line: a model has
// thousands of them.
std::vector<LinearRecord> like_experts_joined(
    const std::vector<LinearRecord>& linears) {
  std::vector<LinearRecord> out;
  std::map<std::string, std::pair<std::size_t, std::int64_t>> lines;
  for (const LinearRecord& linear : linears) {
    const MatrixPlace place = place_of(linear.name);
    if (!place.block || place.kind.find('*') == std::string::npos) {
      out.push_back(linear);
      continue;
    }
    const std::string name =
        fmt::format("layers.{}.{}", *place.block, place.kind);
    auto& [line, count] =
        lines
            .try_emplace(fmt::format("{} {} {} {}", name, linear.format,
                                     linear.out, linear.in),
                         out.size(), 0)
            .first->second;
    if (++count == 1) {
      out.push_back(linear);
    } else {
      out[line].name = fmt::format("{} ({} of them)", name, count);
      out[line].bytes += linear.bytes;
    }
  }
  return out;
}

std::string layer_table(const Record& record) {
  const ModelRecord* after = last_state(record);
  if (after == nullptr || after->linears.empty()) return "";
  std::string out = "## Layers\n\n";
  if (!after->blocks.empty()) {
    const bool mixture =
        std::any_of(after->blocks.begin(), after->blocks.end(),
                    [](const auto& block) { return block.experts > 0; });
    std::vector<std::string> columns = {"block", "query heads",
                                        "key/value heads", "feed-forward"};
    if (mixture)
      columns.insert(columns.end(), {"experts", "shared feed-forward"});
    TextTable table(columns);
    const auto pair = [](std::int64_t then, std::int64_t now) {
      return then == now ? std::to_string(now)
                         : fmt::format("{} (was {})", now, then);
    };
    for (std::size_t i = 0; i < after->blocks.size(); ++i) {
      const ModelRecord::Widths& now = after->blocks[i];
      const ModelRecord::Widths& then =
          i < record.before.blocks.size() ? record.before.blocks[i] : now;
      std::vector<std::string> row = {
          std::to_string(i), pair(then.query_heads, now.query_heads),
          pair(then.kv_heads, now.kv_heads), pair(then.ffn, now.ffn)};
      if (mixture) {
        row.push_back(pair(then.experts, now.experts));
        row.push_back(pair(then.shared_ffn, now.shared_ffn));
      }
      table.add_row(row);
    }
    out += table.markdown() + "\n";
  }
  TextTable table({"matrix", "out x in", "format", "bits", "bytes"});
  for (const LinearRecord& linear : like_experts_joined(after->linears))
    table.add_row({plain(linear.name),
                   fmt::format("{} x {}", linear.out, linear.in),
                   plain(linear.format), fmt::format("{:.3g}", linear.bits),
                   format_bytes(linear.bytes)});
  return out + table.markdown() + "\n";
}

std::string latency_section(const Record& record) {
  const auto rows = latency_table(record);
  if (rows.size() < 2) return "";
  TextTable table(rows[0]);
  for (std::size_t i = 1; i < rows.size(); ++i) {
    std::vector<std::string> cells = rows[i];
    for (std::string& cell : cells) cell = plain(cell);
    table.add_row(std::move(cells));
  }
  const Latency& latency = *record.after->latency;
  return fmt::format(
      "## Latency\n\nPrompt {} tokens, batch {}, {}, {}.\n\n{}\n",
      latency.prompt, latency.batch, plain(latency.device),
      plain(latency.dtype), table.markdown());
}

std::string step_list(const Record& record) {
  if (record.steps.empty()) return "";
  std::string out = "## Steps\n\n";
  for (std::size_t i = 0; i < record.steps.size(); ++i) {
    const StepRecord& step = record.steps[i];
    out +=
        fmt::format("### {}. {}: {} in {}{}\n\n", i + 1, plain(step.name),
                    plain(step.status), format_duration(step.seconds),
                    step.resumed ? ", taken over from an interrupted run" : "");
    if (!step.error.empty()) out += fenced(step.error, "");
    if (step.params.is_object() && !step.params.empty())
      out += plain(one_line(step.params)) + "\n\n";
    const Notes notes = arrange_notes(step.notes);
    for (const auto& [name, value] : notes.lines)
      out += fmt::format("- {}: {}\n", plain(name), plain(value));
    if (!notes.lines.empty()) out += "\n";
    for (const NoteTable& note : notes.tables) {
      TextTable table(note.header);
      for (auto row : note.rows) {
        for (std::string& cell : row) cell = plain(cell);
        table.add_row(std::move(row));
      }
      out += fmt::format("{}:\n\n{}\n", plain(note.name), table.markdown());
    }
  }
  return out;
}

std::string document(const Record& record) {
  std::string out = fmt::format("# autoglm: {} to {}\n\n**{}.** {}\n\n",
                                plain(record.model), plain(record.output),
                                plain(record.status), status_sentence(record));
  if (!record.error.empty()) out += fenced(record.error, "");
  out += before_and_after(record);
  out += constraint_table(record);
  out += size_table(record);
  out += loss_table(record);
  out += layer_table(record);
  out += latency_section(record);
  out += step_list(record);
  out += "## Where the numbers come from\n\n";
  for (const auto& [name, value] : provenance(record))
    out += fmt::format("- {}: {}\n", plain(name), plain(value));
  const std::string yaml = resolved_yaml(record);
  if (!yaml.empty()) out += "\n" + fenced(yaml, "yaml");
  while (out.ends_with("\n\n")) out.pop_back();
  return out;
}

}  // namespace
}  // namespace autoglm::report

namespace autoglm {

std::string report_markdown(const Record& record) {
  return report::document(record);
}

}  // namespace autoglm
