#include "model/int8_product.h"

#include <ATen/cpu/Utils.h>

#include <algorithm>
#include <vector>

#include "model/dequantize.h"

namespace autoglm {
namespace {

// Sums of products of two int8 numbers stay below 2^31 up to this many.
constexpr std::int64_t kInt8Inputs = 1 << 17;

}  // namespace

bool has_int8_product(const QuantizedWeight& w, std::int64_t rows) {
  if (!w.activations.quantized || w.in > kInt8Inputs) return false;
  if (w.codes.is_cpu()) return at::cpu::is_avx512_vnni_supported();
  return w.codes.is_cuda() && rows > 16 && w.in % 8 == 0 && w.out % 8 == 0;
}

at::Tensor int8_product(const RoundedVectors& x, const QuantizedWeight& w) {
  const at::Tensor flat = x.values.reshape({-1, w.in}).to(at::kChar);
  const at::Tensor stored = w.codes.view(at::kByte).narrow(1, 0, w.in);
  const std::int64_t chunk =
      std::max<std::int64_t>(1, rows_at_once(w.in, w.codes.device()) / 8) * 8;
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < w.out; begin += chunk) {
    const std::int64_t count = std::min(chunk, w.out - begin);
    // Stored codes are 128 more than the numbers they stand for.
    const at::Tensor codes =
        stored.narrow(0, begin, count).bitwise_xor(128).view(at::kChar);
    parts.push_back(at::_int_mm(flat, codes.t()).to(at::kFloat));
  }
  auto shape = x.values.sizes().vec();
  shape.back() = w.out;
  const at::Tensor y = at::cat(parts, -1) * w.scales.to(at::kFloat).t();
  return y.view(shape) * x.steps;
}

}  // namespace autoglm
