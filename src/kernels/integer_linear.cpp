#include "autoglm/kernels/integer_linear.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/choice.h"
#include "kernels/cpu_features.h"
#include "kernels/integer_scalar.h"

namespace autoglm::kernels {
namespace {

constexpr std::int64_t kPanelRows = 12;
// A matrix unit is taken from a full panel on, and where padding takes no more
// than the spans.
constexpr std::int64_t kTiledSpan = 32;

// A matrix unit for many rows, AVX-512 with VNNI for few. It was run on
// emulated processors only (docs/kernels.md), so it has to show first that it
// computes what it should. Null pointer where it does not run.
const IntegerImplementation* amx_integer_implementation() {
  const IntegerImplementation* few = avx512_integer_implementation();
  if (few == nullptr || amx_linear_tiles() == nullptr || !has_avx512_vnni() ||
      !has_amx_int8())
    return nullptr;
  static const IntegerImplementation value = {
      "amx", few->linear, few->round_row, amx_linear_tiles()};
  return agrees_with_scalar(value) ? &value : nullptr;
}

Choice<IntegerImplementation>& chosen() {
  static Choice<IntegerImplementation> value = {
      {amx_integer_implementation(), true},
      {avx512_integer_implementation(), has_avx512_vnni()},
      {avxvnni_integer_implementation(), has_avx_vnni()},
      {avx2_integer_implementation(), has_avx2()},
      {&scalar_integer_implementation(), true}};
  return value;
}

}  // namespace

const IntegerImplementation& scalar_integer_implementation() {
  static constexpr IntegerImplementation value = {
      "scalar", integer_linear_any<ScalarInteger>,
      round_row_any<ScalarInteger>};
  return value;
}

IntegerRows::IntegerRows(std::int64_t rows, const Spans& spans)
    : IntegerRows(rows, spans, chosen().get()) {}

IntegerRows::IntegerRows(std::int64_t rows, const Spans& spans,
                         const IntegerImplementation& implementation)
    : implementation_(&implementation),
      rows_(rows),
      panel_rows_(1),
      spans_(spans),
      tiled_(implementation.linear_tiles != nullptr && rows >= kMatrixRows &&
             spans.group_size >= kTiledSpan) {
  // Panels of the same height, so that none is mostly padding.
  const std::int64_t panels =
      std::max<std::int64_t>(1, (rows + kPanelRows - 1) / kPanelRows);
  panel_rows_ = tiled_
                    ? kMatrixRows
                    : std::max<std::int64_t>(1, (rows + panels - 1) / panels);
  const auto count = static_cast<std::size_t>(this->panels());
  const auto bytes = static_cast<std::size_t>(panel_bytes());
  const auto steps = static_cast<std::size_t>(spans.count() * panel_rows_);
  values_ = std::make_unique_for_overwrite<std::int8_t[]>(count * bytes);
  steps_ = std::make_unique_for_overwrite<float[]>(count * steps);
  minus_sums_ = std::make_unique_for_overwrite<std::int32_t[]>(count * steps);
  // Elements behind a span and rows behind the last take part in products.
  if (tiled_ && spans.count() * kSpanElements != spans.in)
    std::memset(values_.get(), 0, count * bytes);
  if (rows % panel_rows_ == 0) return;
  std::memset(values_.get() + (count - 1) * bytes, 0, bytes);
  std::memset(steps_.get() + (count - 1) * steps, 0, steps * 4);
  std::memset(minus_sums_.get() + (count - 1) * steps, 0, steps * 4);
}

std::int64_t IntegerRows::panel_bytes() const {
  return tiled_ ? spans_.count() * kMatrixBytes
                : spans_.quads() * 4 * panel_rows_;
}

void IntegerRows::round(const float* x, std::int64_t begin, std::int64_t end) {
  round_rows(x, nullptr, begin, end);
}

void IntegerRows::round(const float* x, const float* steps, std::int64_t begin,
                        std::int64_t end) {
  round_rows(x, steps, begin, end);
}

void IntegerRows::round_rows(const float* x, const float* steps,
                             std::int64_t begin, std::int64_t end) {
  RowTarget to;
  to.panel_rows = panel_rows_;
  to.stride = tiled_ ? 4 : 4 * panel_rows_;
  to.span_stride = tiled_ ? kMatrixBytes : 0;
  for (std::int64_t m = begin; m < end; ++m) {
    const std::int64_t panel = m / panel_rows_, inside = m % panel_rows_;
    to.values = values_.get() + panel * panel_bytes() +
                inside * (tiled_ ? kSpanElements : 4);
    const std::int64_t first = panel * spans_.count() * panel_rows_ + inside;
    to.steps = steps_.get() + first;
    to.minus_sums = minus_sums_.get() + first;
    implementation_->round_row(x + m * spans_.in, spans_.in, spans_.group_size,
                               steps != nullptr ? steps + m : nullptr, to);
  }
}

void integer_linear(const InterleavedMatrix& weight, const IntegerRows& x,
                    float* y, std::int64_t tile_begin, std::int64_t tile_end) {
  if (x.rows() == 0 || tile_begin == tile_end) return;
  const RowsView view = {x.values(),       x.steps(),      x.minus_sums(),
                         x.rows(),         x.panel_rows(), x.spans().quads(),
                         x.spans().count()};
  // Kept for the next product: 258 KB of each thread that computes.
  static thread_local std::shared_ptr<std::uint8_t> scratch;
  if (x.rows() > 4 && scratch == nullptr)
    scratch = streamed_memory(kScratch * sizeof(float));
  if (x.rows() > 4 && scratch == nullptr) throw std::bad_alloc();
  const auto linear =
      x.tiled() ? x.implementation_->linear_tiles : x.implementation_->linear;
  linear(weight, view, y, tile_begin, tile_end,
         static_cast<float*>(static_cast<void*>(scratch.get())));
}

const char* integer_linear_kernel() { return chosen()->name; }

void force_integer_implementation(const IntegerImplementation& one) {
  chosen().force(one);
}

bool force_integer_linear_kernel(const char* name) {
  return chosen().force(name);
}

}  // namespace autoglm::kernels
