#include "autoglm/report/report.h"
#include "tests/report/markup.h"
#include "tests/report/sample_record.h"
#include "tests/support/catch.h"

namespace autoglm {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t times = 0;
  for (std::size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + 1))
    ++times;
  return times;
}

TEST_CASE("markup_problem: finds what it is there to find") {
  CHECK(markup_problem("<!DOCTYPE html>\n<a b=\"c\"><d/>&amp;</a>") == "");
  CHECK_FALSE(markup_problem("<a><b></a></b>").empty());
  CHECK_FALSE(markup_problem("<a>").empty());
  CHECK_FALSE(markup_problem("<a>&nbsp;</a>").empty());
  CHECK_FALSE(markup_problem("<a b=c></a>").empty());
  CHECK_FALSE(markup_problem("<a b=\"1\" b=\"2\"></a>").empty());
  CHECK_FALSE(markup_problem("<a>1 < 2</a>").empty());
}

TEST_CASE("report_html: is well formed and needs nothing from outside") {
  const std::string page = report_html(sample_record());
  CHECK(markup_problem(page) == "");
  CHECK_FALSE(contains(page, "<script"));
  CHECK_FALSE(contains(page, "http://"));
  CHECK_FALSE(contains(page, "https://"));
  CHECK_FALSE(contains(page, "src="));
  CHECK_FALSE(contains(page, "href="));
}

TEST_CASE("report_html: every figure stands beside its baseline") {
  const std::string page = report_html(sample_record());
  for (const char* figure :
       {"8.39 M", "6.07 M", "16.8 MB", "7.8 MB", "17.4 MB", "7.2 MB", "29.871",
        "37.020", "1.1893", "1.2637", "69.22 %", "92.54 %", "41.2 ms",
        "28.4 ms", "3.31 ms", "1.74 ms"}) {
    INFO(figure);
    CHECK(contains(page, figure));
  }
  CHECK(contains(page, "51,200 predicted tokens (200 windows of 256)"));
  CHECK(contains(page, "89ab01234567cdef"));
  CHECK(contains(page, "sparsity_ratio: 0.4"));
}

TEST_CASE("report_html: a constraint says by how much") {
  const std::string page = report_html(sample_record());
  CHECK(contains(page, "NOT MET"));
  CHECK(contains(page, "missed by 0.0576 (5.9 %)"));
  CHECK(contains(page, "room left: 0.260 ms (13.0 %)"));
  CHECK(contains(page, "1 of 3 constraints not met"));
}

TEST_CASE("report_html: draws sizes, losses, layers and latency") {
  const std::string page = report_html(sample_record());
  // Six loss charts, size, widths, bits, latency.
  CHECK(count(page, "<svg ") == 10);
  CHECK(contains(page, "block 2: 512 of 768"));
  CHECK(contains(page, "layers.3.mlp.down: 256 x 448, int4 per-channel"));
}

TEST_CASE("report_html: a simulated latency is labelled and claims nothing") {
  Record record = sample_record();
  CHECK(contains(report_html(record), "1.90x faster"));
  record.after->latency->decode.simulated = true;
  record.after->latency->prefill.simulated = true;
  const std::string page = report_html(record);
  CHECK(contains(page, "1.74 ms simulated"));
  CHECK(contains(page, "not comparable"));
  CHECK_FALSE(contains(page, "faster"));
  CHECK_FALSE(contains(page, "slower"));
}

TEST_CASE("report_html: text from outside cannot break the page") {
  Record record = sample_record();
  const std::string bad = "<b>\"&'\x01\xff</b>";
  record.model = record.output = record.config = record.error = bad;
  record.cpu = record.status = record.steps[0].name = bad;
  record.steps[1].notes = {{bad, Json::array({{{bad, bad}}})}, {"x", bad}};
  record.steps[1].params = {{bad, bad}};
  record.before.scorecard->data = bad;
  record.after->latency->device = bad;
  record.after->latency->decode.kernel = bad;
  for (LinearRecord& linear : record.after->linears) linear.name = bad;
  record.constraints[0].measure = bad;
  const std::string page = report_html(record);
  CHECK(markup_problem(page) == "");
  CHECK_FALSE(contains(page, "<b>"));
  CHECK(contains(page, "&lt;b&gt;&quot;&amp;&#39;"));
}

TEST_CASE("report_html: a failed run shows how far it came and why it ended") {
  const std::string page = report_html(failed_record());
  CHECK(markup_problem(page) == "");
  CHECK(contains(page, "non-finite loss &lt;nan&gt; &amp; &quot;no&quot;"));
  CHECK(contains(page, "stopped after 1 finished pass."));
  CHECK(contains(page, "after step 1"));
  CHECK(contains(page, "58.420"));
  CHECK_FALSE(contains(page, "Constraints"));
  CHECK_FALSE(contains(page, "<h2>Latency"));
}

TEST_CASE("report_html: an empty record still makes a page") {
  const std::string page = report_html(Record());
  CHECK(markup_problem(page) == "");
  CHECK(contains(page, "nothing to compare"));
}

TEST_CASE("report_html: parts may be missing one by one") {
  Record record = sample_record();
  record.after->latency.reset();
  CHECK(markup_problem(report_html(record)) == "");
  record.before.scorecard.reset();
  CHECK(markup_problem(report_html(record)) == "");
  for (StepRecord& step : record.steps) step.after.reset();
  record.after->scorecard.reset();
  record.after->blocks.clear();
  record.after->linears.clear();
  record.before.parts.clear();
  record.data = nullptr;
  record.resolved = nullptr;
  const std::string page = report_html(record);
  CHECK(markup_problem(page) == "");
  CHECK(contains(page, "7.8 MB"));
}

TEST_CASE("report_html: says when evaluation used a text the passes saw") {
  Record record = sample_record();
  CHECK_FALSE(contains(report_html(record), "flatter"));
  record.data["calibration"]["source"] = "examples/data/evaluation.txt";
  CHECK(contains(report_html(record),
                 "The calibration text is the same file: the figures flatter"));
}

TEST_CASE("report_html: experts of one kind share a cell") {
  Record record = sample_record();
  record.after->linears = {
      {"layers.0.mlp.experts.0.down", 8, 4, "int4", 4, 16},
      {"layers.0.mlp.experts.17.down", 8, 4, "int8", 8, 32}};
  const std::string page = report_html(record);
  CHECK(contains(page,
                 "layers.0.mlp.experts.*.down: 8 x 4, int8, 48 B (2 "
                 "matrices)"));
  CHECK(contains(page, ">6</text>"));
}

}  // namespace
}  // namespace autoglm
