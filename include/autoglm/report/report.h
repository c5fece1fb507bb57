// Reports: pure functions of records.
#pragma once

#include <filesystem>
#include <string>

#include "autoglm/passes/sensitivity_record.h"
#include "autoglm/pipeline/record.h"

namespace autoglm {

/// One self-contained HTML page with inline SVG: size stack, per-layer widths
/// and bits, loss measures, latency bars, steps, constraints, configuration.
std::string report_html(const Record& record);

/// The same facts as Markdown.
std::string report_markdown(const Record& record);

/// What the measures were and are, as a text table for a terminal.
std::string report_summary(const Record& record);

/// What a model loses with each of its blocks and parts, as a picture: a file
/// of its own, one row per measure, one column per block.
std::string sensitivity_svg(const SensitivityRecord& record);

/// Reads DIR/autoglm/record.json and writes report.html and report.md beside
/// it, atomically.
void write_reports(const std::filesystem::path& output_folder);

}  // namespace autoglm
