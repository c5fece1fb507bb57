// report.html: one page that needs nothing else, no script, no network. The
// markup is well-formed XML too, so that other tools can read it.
#include <filesystem>

#include "autoglm/core/text.h"
#include "autoglm/report/report.h"
#include "report/charts.h"
#include "report/facts.h"
#include "report/html_steps.h"
#include "report/style.h"
#include "report/svg.h"

namespace autoglm::report {
namespace {

std::string change_cell(std::string_view element, const Comparison& row) {
  std::string style = element == "td" ? "n" : "change";
  if (row.change != "-" && row.verdict != 0)
    style += row.verdict > 0 ? " good" : " bad";
  return fmt::format("<{0} class=\"{1}\">{2}</{0}>", element, style,
                     safe_text(row.change));
}

constexpr const char* kSimulated = " <span class=\"badge\">simulated</span>";

std::string short_name(const std::string& path) {
  const std::filesystem::path full(path);
  const std::string name =
      full.filename().empty() ? full.parent_path().filename() : full.filename();
  return name.empty() ? path : name;
}

std::string section(std::string_view title, std::string_view caption,
                    std::string_view body) {
  std::string out = fmt::format("<section>\n<h2>{}</h2>\n", title);
  if (!caption.empty())
    out += fmt::format("<p class=\"soft\">{}</p>\n", safe_text(caption));
  return out + std::string(body) + "</section>\n";
}

std::string picture(const std::string& svg) {
  return svg.empty() ? "" : "<div class=\"scroll\">" + svg + "</div>\n";
}

std::string header(const Record& record) {
  std::string out = fmt::format(
      "<header>\n<div class=\"over\">autoglm compression report</div>\n"
      "<h1>{}<span class=\"arrow\">→</span>{}</h1>\n"
      "<div>{} <span class=\"soft\">{} Started {}, took {} on "
      "{}.</span></div>\n",
      safe_text(short_name(record.model)), safe_text(short_name(record.output)),
      badge(record.status), safe_text(status_sentence(record)),
      safe_text(record.started), safe_text(format_duration(record.seconds)),
      safe_text(record.device));
  out += "<div class=\"chain\"><span class=\"chip\">original</span>";
  for (const StepRecord& step : record.steps)
    out += fmt::format(
        "<span class=\"arrow\">→</span><span class=\"chip\">{}{}</span>",
        safe_text(step.name),
        step.status == "done" ? "" : " " + badge(step.status));
  out += "</div>\n";
  if (!record.error.empty())
    out +=
        fmt::format("<div class=\"error\">{}</div>\n", safe_text(record.error));
  return out + "</header>\n";
}

// The figures one looks for first.
std::string cards(const std::vector<Comparison>& rows, const Record& record) {
  const ModelRecord* after = last_state(record);
  if (after == nullptr) return "";
  std::string out = "<div class=\"cards\">\n";
  const auto card = [&](const Comparison& row, double share) {
    out += fmt::format(
        "<div class=\"card\"><div class=\"name\">{}</div>"
        "<div class=\"value\">{}</div><div class=\"was\">from {}",
        safe_text(row.measure.substr(0, row.measure.find(" ("))),
        safe_text(row.after), safe_text(row.before));
    if (row.simulated) {
      out += kSimulated;
    } else if (row.change != "-") {
      out += "<br/>" + change_cell("span", row);
    }
    out += "</div>";
    if (share > 0)
      out += fmt::format(
          "<div class=\"track\"><div style=\"width:{:.1f}%\">"
          "</div></div>",
          100 * std::min(1.0, share));
    out += "</div>\n";
  };
  const auto ratio = [](auto now, auto then) {
    return then > 0 ? static_cast<double>(now) / static_cast<double>(then) : 0;
  };
  for (const Comparison& row : rows) {
    if (row.measure == "parameters")
      card(row, ratio(after->parameters, record.before.parameters));
    if (row.measure == "weights in memory")
      card(row, ratio(after->weight_bytes, record.before.weight_bytes));
    if (row.measure == "perplexity" || row.measure == "top-1 agreement" ||
        row.measure.starts_with("KL divergence") ||
        row.measure.starts_with("decode"))
      card(row, 0);
  }
  return out + "</div>\n";
}

std::string comparison(const std::vector<Comparison>& rows,
                       const Record& record) {
  if (rows.empty())
    return section("Before and after", "No pass finished: nothing to compare.",
                   "");
  std::string body = fmt::format(
      "<div class=\"scroll\"><table>\n<tr><th>measure</th><th>better</th>"
      "<th class=\"n\">before</th><th class=\"n\">{}</th>"
      "<th class=\"n\">change</th></tr>\n",
      last_state_name(record));
  std::string group;
  for (const Comparison& row : rows) {
    if (row.group != group) {
      group = row.group;
      body += fmt::format(
          "<tr class=\"group\"><td colspan=\"5\">{}</td></tr>\n", group);
    }
    body += fmt::format(
        "<tr><td>{}</td><td class=\"soft\">{}</td><td class=\"n\">{}</td>"
        "<td class=\"n\">{}{}</td>{}</tr>\n",
        safe_text(row.measure), row.better, safe_text(row.before),
        safe_text(row.after), row.simulated ? kSimulated : "",
        change_cell("td", row));
  }
  return section("Before and after", evaluation_note(record),
                 body + "</table></div>\n");
}

std::string constraints(const Record& record) {
  if (record.constraints.empty()) return "";
  std::string body =
      "<div class=\"scroll\"><table>\n<tr><th>constraint</th><th>limit</th>"
      "<th class=\"n\">measured</th><th></th><th>margin</th></tr>\n";
  for (const ConstraintRecord& constraint : record.constraints) {
    const Verdict verdict = judge(constraint);
    body += fmt::format(
        "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td>"
        "<td><span class=\"badge {}\">{}</span></td><td>{}</td></tr>\n",
        safe_text(verdict.measure), safe_text(verdict.limit),
        safe_text(verdict.measured), verdict.met ? "good" : "bad",
        verdict.met ? "met" : "NOT MET", safe_text(verdict.margin));
  }
  return section("Constraints", "", body + "</table></div>\n");
}

std::string size_section(const Record& record) {
  const std::string svg = size_chart(record);
  if (svg.empty()) return "";
  std::string legend = "<div class=\"legend\">";
  for (const PartStyle& part : part_styles())
    for (const auto& [name, bytes] : record.before.parts)
      if (name == part.part && bytes > 0)
        legend += fmt::format("<span><i class=\"{}\"></i>{}</span>", part.style,
                              part.part);
  return section("Size",
                 "Bytes of the weights per part of the model, after each step.",
                 legend + "</div>\n" + picture(svg));
}

std::string layer_section(const Record& record) {
  const std::string widths = width_chart(record);
  const std::string bits = bits_chart(record);
  std::string body;
  if (!widths.empty())
    body +=
        "<h3>Widths</h3>\n<div class=\"legend\"><span><i class=\"ghost\">"
        "</i>original</span><span><i class=\"bar-after\"></i>kept</span>"
        "</div>\n" +
        picture(widths);
  if (!bits.empty())
    body +=
        "<h3>Bits per weight</h3>\n<p class=\"soft\">Scales and zero "
        "points not counted; hover for shape, format and bytes.</p>\n" +
        picture(bits);
  return body.empty() ? "" : section("Layers", "", body);
}

std::string loss_section(const Record& record) {
  const std::vector<LossChart> charts = loss_charts(record);
  if (charts.empty()) return "";
  std::string steps = "Dotted: the original.";
  for (std::size_t i = 0; i < record.steps.size(); ++i)
    steps += fmt::format(" {} = {}{}", i + 1, record.steps[i].name,
                         i + 1 < record.steps.size() ? "," : ".");
  std::string body = "<div class=\"small\">\n";
  for (const LossChart& chart : charts)
    body += fmt::format(
        "<div><h3>{} <span class=\"soft\">({} is better)</span></h3>{}</div>\n",
        chart.measure, chart.better, chart.svg);
  return section("Loss after each step", steps, body + "</div>\n");
}

std::string latency_section(const Record& record) {
  const std::string svg = latency_chart(record);
  if (svg.empty()) return "";
  const Latency& latency = *record.after->latency;
  std::string caption = fmt::format(
      "Medians on {}, computing in {}, batch {}; both models measured in turn "
      "in the same run; whiskers reach to p99.",
      latency.device, latency.dtype, latency.batch);
  if (latency.copy_bandwidth_gb_s > 0)
    caption += fmt::format(" Copying memory runs at {:.1f} GB/s here.",
                           latency.copy_bandwidth_gb_s);
  if (latency.prefill.simulated || latency.decode.simulated)
    caption +=
        " Simulated: the weights were dequantized before an ordinary "
        "multiplication, so the time says nothing about a low-bit "
        "kernel and no speed-up is claimed.";
  std::string table = "<div class=\"scroll\"><table class=\"narrow\">\n";
  const auto rows = latency_table(record);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    table += "<tr>";
    for (const std::string& cell : rows[i])
      table +=
          fmt::format("<{0}>{1}</{0}>", i == 0 ? "th" : "td", safe_text(cell));
    table += "</tr>\n";
  }
  return section("Latency", caption, picture(svg) + table + "</table></div>\n");
}

std::string origin_section(const Record& record) {
  std::string body = "<div class=\"scroll\"><table class=\"facts\">\n";
  for (const auto& [name, value] : provenance(record))
    body += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", safe_text(name),
                        safe_text(value));
  body += "</table></div>\n";
  const std::string yaml = resolved_yaml(record);
  if (!yaml.empty())
    body +=
        "<details><summary>the resolved configuration; running it again "
        "reproduces this result</summary><pre>" +
        safe_text(yaml) + "</pre></details>\n";
  return section("Where the numbers come from", "", body);
}

std::string page(const Record& record) {
  const std::vector<Comparison> rows = compare(record);
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\"/>\n<title>autoglm: {}</title>\n<style>{}</style>\n"
      "</head>\n<body>\n<main>\n",
      safe_text(short_name(record.output)), style_sheet());
  out += header(record);
  out += cards(rows, record);
  out += constraints(record);
  out += comparison(rows, record);
  out += size_section(record);
  out += loss_section(record);
  out += layer_section(record);
  out += latency_section(record);
  if (!record.steps.empty()) out += section("Steps", "", steps_html(record));
  out += origin_section(record);
  return out + "</main>\n</body>\n</html>\n";
}

}  // namespace
}  // namespace autoglm::report

namespace autoglm {

std::string report_html(const Record& record) { return report::page(record); }

}  // namespace autoglm
