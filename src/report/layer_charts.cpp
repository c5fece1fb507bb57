// What each block looks like: widths and bits.
#include <algorithm>
#include <map>
#include <optional>

#include "autoglm/core/text.h"
#include "report/block_columns.h"
#include "report/charts.h"
#include "report/facts.h"
#include "report/svg.h"

namespace autoglm::report {
namespace {

struct WidthRow {
  const char* name;
  std::int64_t ModelRecord::Widths::*field;
};

// One row of bars: the original as an outline, what is left as a filling.
void draw_widths(Svg& svg, const WidthRow& row, double top, double height,
                 const BlockColumns& columns, const ModelRecord& before,
                 const ModelRecord& after) {
  std::int64_t largest = 1;
  for (const auto* model : {&before, &after})
    for (const auto& block : model->blocks)
      largest = std::max(largest, block.*row.field);
  const double scale = height / static_cast<double>(largest);
  svg.text(kChartLabels - 10, top + height / 2 + 4, row.name, "label", "end");
  for (std::size_t i = 0; i < after.blocks.size(); ++i) {
    const std::int64_t now = after.blocks[i].*row.field;
    const std::int64_t then =
        i < before.blocks.size() ? before.blocks[i].*row.field : now;
    const std::string title = fmt::format("block {}: {} of {}", i, now, then);
    const double then_height = static_cast<double>(then) * scale;
    const double now_height = static_cast<double>(now) * scale;
    svg.rect(columns.left(i), top + height - then_height, columns.width(),
             then_height, "ghost", title);
    svg.rect(columns.left(i), top + height - now_height, columns.width(),
             now_height, "bar-after", title);
    const std::string value = std::to_string(now);
    if (columns.fits(value) && now_height > 18)
      svg.text(columns.middle(i), top + height - now_height + 14, value,
               "on-color", "middle");
  }
}

// A cell of the grid: the matrices that fall together (experts of one kind).
struct Cell {
  double elements = 0, bit_sum = 0;
  std::uint64_t bytes = 0;
  std::int64_t matrices = 0;
  std::string format, shape;

  void add(const LinearRecord& linear) {
    const double size =
        static_cast<double>(linear.out) * static_cast<double>(linear.in);
    elements += size;
    bit_sum += linear.bits * size;
    bytes += linear.bytes;
    ++matrices;
    format = linear.format;
    shape = fmt::format("{} x {}", linear.out, linear.in);
  }
  double bits() const { return elements > 0 ? bit_sum / elements : 0; }
};

struct Grid {
  std::vector<std::string> kinds;  // in order of appearance
  std::map<std::string, std::map<std::size_t, Cell>> cells;
  std::vector<std::pair<std::string, Cell>> others;  // embedding, head
  std::size_t blocks = 0;
  double most_bits = 0;
};

Grid grid_of(const ModelRecord& model) {
  Grid grid;
  for (const LinearRecord& linear : model.linears) {
    const MatrixPlace place = place_of(linear.name);
    if (!place.block) {
      Cell cell;
      cell.add(linear);
      grid.others.emplace_back(linear.name, cell);
    } else {
      if (!grid.cells.contains(place.kind)) grid.kinds.push_back(place.kind);
      grid.cells[place.kind][*place.block].add(linear);
      grid.blocks = std::max(grid.blocks, *place.block + 1);
    }
    grid.most_bits = std::max(grid.most_bits, linear.bits);
  }
  return grid;
}

std::string bits_text(double bits) { return fmt::format("{:.2g}", bits); }

void draw_cell(Svg& svg, const Cell& cell, const std::string& name, double x,
               double y, double width, double height, double most_bits) {
  const double bits = cell.bits();
  std::string title = fmt::format("{}: {}, {}, {}", name, cell.shape,
                                  cell.format, format_bytes(cell.bytes));
  if (cell.matrices > 1) title += fmt::format(" ({} matrices)", cell.matrices);
  // The ink is what is stored: the deeper, the more bits. Never so deep that
  // the figure in the cell drowns.
  const double depth = most_bits > 0 ? 0.06 + 0.6 * bits / most_bits : 0.06;
  svg.rect(x, y, width, height, "bits", title, depth);
  const std::string text = bits_text(bits);
  if (text_width(text, kCellFont) + 4 <= width)
    svg.text(x + width / 2, y + height / 2 + 4, text, "cell", "middle");
}

}  // namespace

std::string width_chart(const Record& record) {
  const ModelRecord* after = last_state(record);
  if (after == nullptr || after->blocks.empty()) return "";
  const BlockColumns columns(after->blocks.size());
  Svg svg(kChartWidth, 220, "feed-forward width and query heads of each block");
  draw_widths(svg, {"feed-forward", &ModelRecord::Widths::ffn}, 4, 110, columns,
              record.before, *after);
  draw_widths(svg, {"query heads", &ModelRecord::Widths::query_heads}, 130, 60,
              columns, record.before, *after);
  draw_block_numbers(svg, columns, after->blocks.size(), 208);
  return svg.str();
}

std::string bits_chart(const Record& record) {
  const ModelRecord* after = last_state(record);
  if (after == nullptr || after->linears.empty()) return "";
  Grid grid = grid_of(*after);
  for (const LinearRecord& linear : record.before.linears)
    grid.most_bits = std::max(grid.most_bits, linear.bits);
  constexpr double kRow = 24;
  const BlockColumns columns(grid.blocks);
  const double grid_height = kRow * static_cast<double>(grid.kinds.size());
  const double axis = grid.blocks > 0 ? 26 : 0;
  const double height =
      grid_height + axis + (grid.others.empty() ? 0 : kRow + 6);
  Svg svg(kChartWidth, height, "bits per weight of each matrix");
  double y = 0;
  for (const std::string& kind : grid.kinds) {
    svg.text(kChartLabels - 10, y + kRow / 2 + 4, kind, "label", "end");
    for (const auto& [block, cell] : grid.cells[kind])
      draw_cell(svg, cell, fmt::format("layers.{}.{}", block, kind),
                columns.left(block), y, columns.width(), kRow - 3,
                grid.most_bits);
    y += kRow;
  }
  if (grid.blocks > 0) draw_block_numbers(svg, columns, grid.blocks, y + 12);
  y += axis + 4;
  double x = kChartLabels;
  for (const auto& [name, cell] : grid.others) {
    draw_cell(svg, cell, name, x, y, 60, kRow - 3, grid.most_bits);
    svg.text(x + 68, y + kRow / 2 + 3, name, "label");
    x += 68 + text_width(name, 12) + 24;
  }
  return svg.str();
}

}  // namespace autoglm::report
