#include "autoglm/core/file.h"
#include "autoglm/report/report.h"
#include "tests/report/sample_record.h"
#include "tests/support/catch.h"

namespace autoglm {
namespace {

// The snapshot shows a reviewer what changed. To accept a new text, copy the
// file that the failing test names over the golden one.
TEST_CASE("report_markdown: the sample record gives the golden text") {
  const std::filesystem::path golden =
      std::filesystem::path(AUTOGLM_SOURCE_DIR) /
      "tests/golden/report/report.md";
  const std::string text = report_markdown(sample_record());
  if (text != read_file(golden)) {
    const auto actual =
        std::filesystem::temp_directory_path() / "autoglm-report-actual.md";
    write_file_atomically(actual, text);
    FAIL(golden.string() << " differs from " << actual.string());
  }
}

TEST_CASE("report_markdown: a simulated latency claims no speed-up") {
  Record record = sample_record();
  record.after->latency->decode.simulated = true;
  const std::string text = report_markdown(record);
  CHECK(text.find("1.74 ms (simulated) | not comparable") != std::string::npos);
  CHECK(text.find("1.90x") == std::string::npos);
}

TEST_CASE("report_markdown: text from outside stays text") {
  Record record = failed_record();
  record.model = "a*b_c_ <script> | x\ny `z`";
  record.error = "three ``` backquotes";
  const std::string text = report_markdown(record);
  CHECK(
      text.starts_with("# autoglm: a\\*b_c\\_ &lt;script> | x y \\`z\\` to "));
  CHECK(text.find("````\nthree ``` backquotes\n````\n") != std::string::npos);
}

TEST_CASE("report_markdown: an empty record still makes a text") {
  CHECK(report_markdown(Record()).find("nothing to compare") !=
        std::string::npos);
}

}  // namespace
}  // namespace autoglm
