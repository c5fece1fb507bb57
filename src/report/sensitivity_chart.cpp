// What a model loses with each of its blocks and parts.
#include <algorithm>
#include <functional>
#include <optional>

#include "autoglm/core/text.h"
#include "autoglm/report/report.h"
#include "report/block_columns.h"

namespace autoglm {
namespace {

using namespace report;
using Value = std::optional<double>;

constexpr double kRow = 24;

// One measure, over the blocks.
struct Row {
  std::string name;
  std::string style;
  std::vector<Value> values;
  std::vector<bool> marks;  // redundant
};

const PartSensitivity* find_part(const BlockSensitivity& block,
                                 const std::string& name) {
  for (const PartSensitivity& part : block.parts)
    if (part.part == name) return &part;
  return nullptr;
}

Row block_row(const SensitivityRecord& record, const char* name,
              double BlockSensitivity::*field) {
  Row row = {name, "part-head", {}, {}};
  for (const BlockSensitivity& block : record.blocks) {
    row.values.push_back(block.*field);
    row.marks.push_back(field == &BlockSensitivity::removed && block.redundant);
  }
  return row;
}

Row part_row(const SensitivityRecord& record, const std::string& part,
             const char* name,
             const std::function<Value(const PartSensitivity&)>& value,
             bool marked = false) {
  Row row = {name, "part-" + part, {}, {}};
  for (const BlockSensitivity& block : record.blocks) {
    const PartSensitivity* found = find_part(block, part);
    row.values.push_back(found != nullptr ? value(*found) : std::nullopt);
    row.marks.push_back(marked && found != nullptr && found->redundant);
  }
  return row;
}

std::vector<Row> part_rows(const SensitivityRecord& record,
                           const std::string& part) {
  using P = const PartSensitivity&;
  return {
      part_row(record, part, "|w g|", [](P p) -> Value { return p.taylor; }),
      part_row(record, part, "1 - cos",
               [](P p) -> Value { return p.influence; }),
      part_row(
          record, part, "KL removed", [](P p) -> Value { return p.removed; },
          true),
      part_row(record, part, "KL cut", [](P p) { return p.cut; }),
      part_row(record, part, "KL in 4 bits", [](P p) { return p.four_bits; })};
}

// The ink is what is lost, by the row's largest value; never so deep that the
// figure in the cell drowns.
void draw_row(Svg& svg, const Row& row, const BlockColumns& columns, double y) {
  double most = 0;
  for (const Value& value : row.values)
    most = std::max(most, value.value_or(0));
  svg.text(kChartLabels - 10, y + kRow / 2 + 4, row.name, "label", "end");
  for (std::size_t i = 0; i < row.values.size(); ++i) {
    if (!row.values[i]) continue;
    const double value = *row.values[i];
    const std::string title =
        fmt::format("block {}, {}: {:.4g}{}", i, row.name, value,
                    row.marks[i] ? ", redundant" : "");
    const double depth =
        most > 0 ? 0.06 + 0.6 * std::max(0.0, value) / most : 0.06;
    svg.rect(columns.left(i), y, columns.width(), kRow - 3, row.style, title,
             depth);
    const std::string text = fmt::format("{:.2g}", value);
    if (columns.fits(text))
      svg.text(columns.middle(i), y + kRow / 2 + 3, text, "cell", "middle");
    if (row.marks[i])
      svg.dot(columns.left(i) + columns.width() - 3, y + 4, 3, "dot-after",
              title);
  }
}

}  // namespace

std::string sensitivity_svg(const SensitivityRecord& record) {
  const std::vector<std::pair<std::string, std::vector<Row>>> groups = {
      {"whole block",
       {block_row(record, "1 - cos", &BlockSensitivity::influence),
        block_row(record, "KL removed", &BlockSensitivity::removed)}},
      {"attention", part_rows(record, "attention")},
      {"mlp", part_rows(record, "mlp")}};
  constexpr double kTop = 44;
  double height = kTop + 20;
  for (const auto& [name, rows] : groups)
    height += kRow * static_cast<double>(rows.size() + 1);
  const BlockColumns columns(record.blocks.size());
  Svg svg(kChartWidth, height, "what the model loses with each block and part");
  svg.rect(0, 0, kChartWidth, height, "paper");
  svg.text(10, 18, record.model, "strong");
  svg.text(
      10, 36,
      fmt::format("KL from the whole model, in nats, over {} windows of "
                  "{} tokens of {}; a dot: below {:.3g}",
                  record.windows, record.length, record.data, record.threshold),
      "faint");
  double y = kTop;
  for (const auto& [name, rows] : groups) {
    svg.text(kChartLabels - 10, y + kRow / 2 + 4, name, "strong", "end");
    y += kRow;
    for (const Row& row : rows) {
      draw_row(svg, row, columns, y);
      y += kRow;
    }
  }
  draw_block_numbers(svg, columns, record.blocks.size(), y + 12);
  return svg.document();
}

}  // namespace autoglm
