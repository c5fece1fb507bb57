#include "autoglm/core/file.h"
#include "autoglm/report/report.h"

namespace autoglm {

void write_reports(const std::filesystem::path& output_folder) {
  const std::filesystem::path folder = output_folder / "autoglm";
  const std::filesystem::path file = folder / "record.json";
  const Record record = record_from_json(read_json(file), file.string());
  write_file_atomically(folder / "report.html", report_html(record));
  write_file_atomically(folder / "report.md", report_markdown(record));
}

}  // namespace autoglm
