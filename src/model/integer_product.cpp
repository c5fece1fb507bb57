#include "model/integer_product.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "model/dequantize.h"

namespace autoglm {
namespace {

// A tensor of bytes in memory that is meant to be streamed through.
at::Tensor streamed_bytes(std::int64_t rows, std::int64_t columns) {
  const auto bytes = static_cast<std::size_t>(rows * columns);
  std::shared_ptr<std::uint8_t> memory = kernels::streamed_memory(bytes);
  if (memory == nullptr)
    fail(ErrorKind::kResources,
         fmt::format("no memory for a weight of {}", format_bytes(bytes)));
  void* data = memory.get();
  return at::from_blob(
      data, {rows, columns}, [memory = std::move(memory)](void*) {}, at::kByte);
}

// Work per task below which another thread would cost more than it brings,
// in multiply-adds of a decode step.
constexpr std::int64_t kGrainWork = 1 << 19;

std::int64_t tile_grain(std::int64_t in, std::int64_t rows) {
  const std::int64_t work = kernels::kTileRows * in * (3 + rows) / 4;
  return std::max<std::int64_t>(1,
                                kGrainWork / std::max<std::int64_t>(1, work));
}

kernels::IntegerRows round_rows(const at::Tensor& x, const QuantizedWeight& w) {
  const std::int64_t count = x.size(0);
  kernels::IntegerRows rounded(count, {w.in, w.group_size});
  const float* values = x.const_data_ptr<float>();
  at::Tensor steps;
  if (w.activations.quantized) {
    if (w.activations.dynamic()) {
      steps = x.abs().amax(-1) / 127;
      steps = at::where(steps == 0, at::ones_like(steps), steps);
    } else {
      steps = w.activations.scale.to(at::kFloat).expand({count}).contiguous();
    }
  }
  const std::int64_t grain =
      std::max<std::int64_t>(1, (1 << 15) / std::max<std::int64_t>(1, w.in));
  at::parallel_for(0, count, grain, [&](std::int64_t from, std::int64_t to) {
    if (steps.defined())
      rounded.round(values, steps.const_data_ptr<float>(), from, to);
    else
      rounded.round(values, from, to);
  });
  return rounded;
}

}  // namespace

kernels::InterleavedMatrix interleaved_view(const QuantizedWeight& w) {
  AUTOGLM_ENSURE(w.interleaved);
  kernels::InterleavedMatrix view;
  view.codes = w.codes.const_data_ptr<std::uint8_t>();
  view.scales = w.scales.const_data_ptr();
  view.scale_type = scale_type(w);
  view.zeros =
      w.zeros.defined() ? w.zeros.const_data_ptr<std::uint8_t>() : nullptr;
  view.out = w.out;
  view.in = w.in;
  view.group_size = w.group_size;
  view.bits = w.bits;
  return view;
}

Weight interleaved(const Weight& weight) {
  const auto* w = std::get_if<QuantizedWeight>(&weight);
  if (w == nullptr || w->interleaved || !w->codes.is_cpu() || w->out == 0 ||
      !kernels::can_interleave(w->in, w->group_size))
    return weight;
  const kernels::PackedMatrix from = packed_view(*w);
  const std::int64_t tiles =
      (w->out + kernels::kTileRows - 1) / kernels::kTileRows;
  QuantizedWeight out = *w;
  out.interleaved = true;
  out.codes =
      streamed_bytes(tiles, kernels::tile_bytes(w->in, w->group_size, w->bits));
  const std::vector<std::int64_t> shape = {tiles, w->groups(),
                                           kernels::kTileRows};
  out.scales = at::empty(shape, w->scales.options());
  if (w->zeros.defined()) out.zeros = at::empty(shape, w->zeros.options());
  auto* codes = out.codes.data_ptr<std::uint8_t>();
  void* scales = out.scales.data_ptr();
  auto* zeros =
      w->zeros.defined() ? out.zeros.data_ptr<std::uint8_t>() : nullptr;
  at::parallel_for(0, tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    kernels::interleave(from, codes, scales, zeros, begin, end);
  });
  return out;
}

at::Tensor interleaved_rows(const QuantizedWeight& w, const at::Tensor& ids,
                            at::ScalarType dtype) {
  const at::Tensor flat = ids.contiguous();
  const std::int64_t* rows = flat.const_data_ptr<std::int64_t>();
  at::Tensor out = at::empty({flat.numel(), w.in}, at::kFloat);
  float* data = out.data_ptr<float>();
  const kernels::InterleavedMatrix view = interleaved_view(w);
  at::parallel_for(0, flat.numel(), 16,
                   [&](std::int64_t from, std::int64_t to) {
                     for (std::int64_t i = from; i < to; ++i) {
                       AUTOGLM_ENSURE(rows[i] >= 0 && rows[i] < w.out);
                       kernels::interleaved_row(view, rows[i], data + i * w.in);
                     }
                   });
  return out.to(dtype);
}

bool round_alike(const QuantizedWeight& a, const QuantizedWeight& b) {
  if (a.in != b.in || a.group_size != b.group_size) return false;
  const ActivationScheme &x = a.activations, &y = b.activations;
  if (x.quantized != y.quantized) return false;
  return !x.quantized || (x.dynamic() && y.dynamic());
}

std::vector<at::Tensor> integer_products(
    const at::Tensor& x, const std::vector<const QuantizedWeight*>& weights) {
  const QuantizedWeight& first = *weights.front();
  const at::Tensor flat = x.reshape({-1, first.in}).to(at::kFloat).contiguous();
  const kernels::IntegerRows rounded = round_rows(flat, first);
  auto shape = x.sizes().vec();
  std::vector<kernels::InterleavedMatrix> views;
  std::vector<at::Tensor> out;
  std::vector<float*> targets;
  std::vector<std::int64_t> ends;  // of the matrices, in tiles of all
  for (const QuantizedWeight* w : weights) {
    views.push_back(interleaved_view(*w));
    out.push_back(at::empty({flat.size(0), w->out}, at::kFloat));
    targets.push_back(out.back().data_ptr<float>());
    ends.push_back((ends.empty() ? 0 : ends.back()) + views.back().tiles());
  }
  // One region for all of them: small matrices share a wake-up of the threads.
  at::parallel_for(0, ends.back(), tile_grain(first.in, flat.size(0)),
                   [&](std::int64_t from, std::int64_t to) {
                     for (std::size_t i = 0; i < views.size(); ++i) {
                       const std::int64_t start = ends[i] - views[i].tiles();
                       const std::int64_t begin = std::max(from, start) - start;
                       const std::int64_t end = std::min(to, ends[i]) - start;
                       if (begin < end)
                         kernels::integer_linear(views[i], rounded, targets[i],
                                                 begin, end);
                     }
                   });
  for (std::size_t i = 0; i < out.size(); ++i) {
    shape.back() = weights[i]->out;
    out[i] = out[i].view(shape).to(x.scalar_type());
  }
  return out;
}

}  // namespace autoglm
