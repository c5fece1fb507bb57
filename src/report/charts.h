// The pictures of a report, each a self-contained <svg>. An empty string when
// the record lacks what a picture needs.
#pragma once

#include <string>
#include <vector>

#include "autoglm/pipeline/record.h"

namespace autoglm::report {

/// The parts of a model in drawing order, with the style of their colour.
struct PartStyle {
  const char* part;
  const char* style;  // class "part-mlp"
};
const std::vector<PartStyle>& part_styles();

/// Bytes per part, one bar per state: original, after each step, output.
std::string size_chart(const Record& record);

/// Median latency of prefill and decode, before and after, with p99 whiskers.
std::string latency_chart(const Record& record);

/// Feed-forward width and query heads of each block, before and after.
std::string width_chart(const Record& record);

/// Bits of each matrix of each block after compression, as a grid.
std::string bits_chart(const Record& record);

/// One picture per loss measure, over the steps.
struct LossChart {
  std::string measure, better, svg;
};
std::vector<LossChart> loss_charts(const Record& record);

}  // namespace autoglm::report
