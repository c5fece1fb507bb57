// A row of activations in whole numbers, over the vector interface that
// integer_loops.h describes.
#pragma once

#include "kernels/integer_implementation.h"
#include "kernels/interleaved_layout.h"

namespace autoglm::kernels {
namespace {

// Rounds one row; see RowTarget.
template <class Isa>
void round_row_any(const float* x, std::int64_t in, std::int64_t group_size,
                   const float* given_step, const RowTarget& to) {
  std::int8_t* values = to.values;
  for_each_span(
      in, group_size, [&](std::int64_t span, std::int64_t, int quads) {
        const std::int64_t count = in < quads * 4 ? in : quads * 4;
        const std::uint32_t largest = Isa::largest(x, count);
        float step = given_step != nullptr
                         ? *given_step
                         : __builtin_bit_cast(float, largest) / 127.0f;
        const bool finite = largest < 0x7f800000u;
        if (!finite) step = __builtin_nanf("");
        if (finite && step < __FLT_MIN__) step = 0;
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < 4 * quads; k += 16) {
          alignas(64) std::int8_t rounded[16] = {};
          if (finite && step > 0) {
            if (k + 16 <= count) {
              sum += Isa::round(x + k, step, rounded);
            } else {
              float padded[16] = {};
              for (std::int64_t i = k; i < count; ++i) padded[i - k] = x[i];
              sum += Isa::round(padded, step, rounded);
            }
          }
          for (int j = 0; j < 4 && k + 4 * j < 4 * quads;
               ++j, values += to.stride)
            __builtin_memcpy(values, rounded + 4 * j, 4);
        }
        if (to.span_stride != 0)
          values = to.values + (span + 1) * to.span_stride;
        to.steps[span * to.panel_rows] = step;
        to.minus_sums[span * to.panel_rows] = -sum;
        x += count;
        in -= count;
      });
}

}  // namespace
}  // namespace autoglm::kernels
