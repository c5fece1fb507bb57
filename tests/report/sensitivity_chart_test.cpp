#include "autoglm/report/report.h"
#include "tests/report/markup.h"
#include "tests/support/catch.h"

namespace autoglm {
namespace {

std::size_t count(const std::string& text, const std::string& word) {
  std::size_t out = 0;
  for (std::size_t at = text.find(word); at != std::string::npos;
       at = text.find(word, at + 1))
    ++out;
  return out;
}

SensitivityRecord sample(std::size_t layers) {
  SensitivityRecord record;
  record.model = "a <model> & more";
  record.data = "book.txt";
  record.windows = 4;
  record.length = 16;
  record.threshold = 0.05;
  for (std::size_t i = 0; i < layers; ++i) {
    BlockSensitivity block;
    block.layer = i;
    block.removed = 0.5 + static_cast<double>(i);
    for (const char* name : {"attention", "mlp"}) {
      PartSensitivity part;
      part.part = name;
      part.removed = 0.01 * static_cast<double>(i + 1);
      part.redundant = i == 0;
      if (i != 1) part.cut = 0.002;
      part.four_bits = 0.001;
      block.parts.push_back(part);
    }
    record.blocks.push_back(block);
  }
  return record;
}

TEST_CASE("sensitivity_svg: a cell for each value, a dot for each mark") {
  const std::string svg = sensitivity_svg(sample(3));
  CHECK(markup_problem(svg) == "");
  CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  CHECK(count(svg, "class=\"part-head\"") == 2 * 3);
  CHECK(count(svg, "class=\"part-mlp\"") == 5 * 3 - 1);  // one without a cut
  CHECK(count(svg, "<circle") == 2);
  CHECK(count(svg, "block 0, KL removed: 0.01, redundant") == 4);
  CHECK(svg.find("a &lt;model&gt; &amp; more") != std::string::npos);
  CHECK(svg.find("4 windows of 16 tokens of book.txt; a dot: below 0.05") !=
        std::string::npos);
}

TEST_CASE("sensitivity_svg: parts that are not there, and none at all") {
  SensitivityRecord record = sample(2);
  record.blocks[1].parts.pop_back();
  const std::string svg = sensitivity_svg(record);
  CHECK(markup_problem(svg) == "");
  CHECK(count(svg, "class=\"part-mlp\"") == 5);
  CHECK(markup_problem(sensitivity_svg({})) == "");
  CHECK(markup_problem(sensitivity_svg(sample(92))) == "");
}

}  // namespace
}  // namespace autoglm
