// Multiplication of a low-bit weight with activations that are rounded to
// whole numbers of 8 bits: products and sums of bytes, exact in 32 bits, then
// one scale per span. It reads the weight once for all rows of x and runs
// several times as fast as the product in floating point where rows are many;
// the rounding costs about half a per cent of the result's norm.
#pragma once

#include <cstdint>
#include <memory>

#include "autoglm/kernels/interleaved.h"

namespace autoglm::kernels {

struct IntegerImplementation;

/// x [rows, in] in whole numbers -127..127, one step per row and span: x is
/// about values * step. Rows lie in panels as the kernels read them that were
/// chosen when they were made.
class IntegerRows {
 public:
  IntegerRows(std::int64_t rows, const Spans& spans);
  IntegerRows(std::int64_t rows, const Spans& spans,
              const IntegerImplementation& implementation);

  /// Fills rows [begin, end) from x [rows, in]. Each span's step is its largest
  /// |x| / 127; below the smallest normal number the span counts as zero. A
  /// span with NaN or infinity makes its row's results NaN. Threads may fill
  /// different rows at once.
  void round(const float* x, std::int64_t begin, std::int64_t end);

  /// The same with a given step per row, [rows], above 0; what lies beyond 127
  /// steps is cut off.
  void round(const float* x, const float* steps, std::int64_t begin,
             std::int64_t end);

  std::int64_t rows() const { return rows_; }
  const Spans& spans() const { return spans_; }
  std::int64_t panel_rows() const { return panel_rows_; }
  std::int64_t panels() const {
    return (rows_ + panel_rows_ - 1) / panel_rows_;
  }
  /// True where panels are of 16 rows for a matrix unit.
  bool tiled() const { return tiled_; }
  /// [panels, quads, panel_rows, 4], up to 12 rows, zeros behind the last row
  /// and element. Tiled: [panels, spans, 16, 64], zeros behind every span.
  const std::int8_t* values() const { return values_.get(); }
  /// [panels, spans, panel_rows]
  const float* steps() const { return steps_.get(); }
  /// [panels, spans, panel_rows]: the sum of a span's values times -1, which
  /// is what a zero code of 1 adds to a product.
  const std::int32_t* minus_sums() const { return minus_sums_.get(); }

 private:
  std::int64_t panel_bytes() const;
  void round_rows(const float* x, const float* steps, std::int64_t begin,
                  std::int64_t end);

  friend void integer_linear(const InterleavedMatrix& weight,
                             const IntegerRows& x, float* y,
                             std::int64_t tile_begin, std::int64_t tile_end);

  const IntegerImplementation* implementation_;
  std::int64_t rows_, panel_rows_;
  Spans spans_;
  bool tiled_;
  std::unique_ptr<std::int8_t[]> values_;
  std::unique_ptr<float[]> steps_;
  std::unique_ptr<std::int32_t[]> minus_sums_;
};

/// y[m][o] = sum_k x[m][k] * weight[o][k] for the rows o of the tiles
/// [tile_begin, tile_end). y: [rows, out] fp32; only the named columns are
/// written. `x` has the weight's spans. The result is the same to the bit on
/// every machine, for every number of rows and threads. Throws std::bad_alloc
/// without memory for what a thread keeps between calls (258 KB).
void integer_linear(const InterleavedMatrix& weight, const IntegerRows& x,
                    float* y, std::int64_t tile_begin, std::int64_t tile_end);

/// The implementation chosen on this machine: "amx", "avx512vnni", "avxvnni",
/// "avx2" or "scalar".
const char* integer_linear_kernel();

/// For tests and benchmarks: forces an implementation by name; false when
/// this machine cannot run it. "auto" goes back to the choice above.
bool force_integer_linear_kernel(const char* name);

}  // namespace autoglm::kernels
