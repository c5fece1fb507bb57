// Charts with one column per block.
#pragma once

#include <cstddef>
#include <string_view>

#include "report/svg.h"

namespace autoglm::report {

constexpr double kChartWidth = 960;
constexpr double kChartLabels = 130;  // of it, for the names of rows
constexpr double kCellFont = 11;

/// Columns of `count` blocks, with a gap only where there is room for one.
struct BlockColumns {
  explicit BlockColumns(std::size_t count);
  double left(std::size_t block) const {
    return kChartLabels + step * static_cast<double>(block);
  }
  double width() const { return step - gap; }
  double middle(std::size_t block) const { return left(block) + width() / 2; }
  bool fits(std::string_view text) const {
    return text_width(text, kCellFont) + 4 <= width();
  }
  double step;
  double gap;
};

/// The blocks' numbers under the columns, as many as there is room for.
void draw_block_numbers(Svg& svg, const BlockColumns& columns,
                        std::size_t count, double y);

}  // namespace autoglm::report
