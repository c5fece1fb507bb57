#include "autoglm/core/file.h"
#include "autoglm/report/report.h"
#include "tests/report/sample_record.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace autoglm {
namespace {

TEST_CASE("write_reports: the record on disk gives the report of the record") {
  const test::TemporaryFolder folder;
  const auto notes = folder.path() / "autoglm";
  std::filesystem::create_directories(notes);
  const Record record = sample_record();
  write_file_atomically(notes / "record.json", to_text(to_json(record)));
  write_reports(folder.path());
  CHECK(read_file(notes / "report.html") == report_html(record));
  CHECK(read_file(notes / "report.md") == report_markdown(record));
}

}  // namespace
}  // namespace autoglm
