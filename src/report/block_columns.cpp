#include "report/block_columns.h"

#include <algorithm>
#include <string>

namespace autoglm::report {

BlockColumns::BlockColumns(std::size_t count)
    : step((kChartWidth - kChartLabels) /
           static_cast<double>(std::max<std::size_t>(count, 1))) {
  // Few blocks would give clumsy slabs.
  step = std::min(step, 96.0);
  gap = step > 14 ? 4 : step > 5 ? 1 : 0;
}

void draw_block_numbers(Svg& svg, const BlockColumns& columns,
                        std::size_t count, double y) {
  // Every label, or every fifth, tenth ... as the room allows.
  std::size_t every = 1;
  for (const std::size_t candidate : {1, 2, 5, 10, 20, 50}) {
    every = candidate;
    if (columns.step * static_cast<double>(candidate) > 26) break;
  }
  for (std::size_t i = 0; i < count; i += every)
    svg.text(columns.middle(i), y, std::to_string(i), "tick", "middle");
  svg.text(kChartLabels - 10, y, "block", "tick", "end");
}

}  // namespace autoglm::report
