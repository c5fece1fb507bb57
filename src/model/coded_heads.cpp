#include "model/coded_heads.h"

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

constexpr std::int64_t kEndsBytes = 4;  // step and least number
constexpr double kHalfMax = 65504;

std::int64_t code_bytes(std::int64_t size, int bits) {
  AUTOGLM_ENSURE(bits == 4 || bits == 8);
  return bits == 4 ? (size + 1) / 2 : size;
}

}  // namespace

std::int64_t coded_head_bytes(std::int64_t size, int bits) {
  return code_bytes(size, bits) + kEndsBytes;
}

at::Tensor encode_heads(const at::Tensor& x, int bits) {
  const double top = (1 << bits) - 1;
  const at::Tensor wide = x.detach().to(at::kFloat);
  const at::Tensor least = wide.amin(-1, /*keepdim=*/true);
  const at::Tensor range = wide.amax(-1, /*keepdim=*/true) - least;
  const at::Tensor ends =
      at::clamp(at::cat({range / top, least}, -1), -kHalfMax, kHalfMax)
          .to(at::kHalf);
  // Codes are of the step and least number that decoding will see.
  const at::Tensor step = ends.narrow(-1, 0, 1).to(at::kFloat);
  const at::Tensor steps = (wide - ends.narrow(-1, 1, 1).to(at::kFloat)) /
                           at::where(step == 0, at::ones_like(step), step);
  at::Tensor codes = at::clamp(steps.round(), 0, top).to(at::kByte);
  if (bits == 4) {
    if (codes.size(-1) % 2 != 0) codes = at::constant_pad_nd(codes, {0, 1});
    const at::Tensor pairs = codes.unflatten(-1, {codes.size(-1) / 2, 2});
    codes = pairs.select(-1, 0) + pairs.select(-1, 1) * 16;
  }
  return at::cat({codes, ends.contiguous().view(at::kByte)}, -1);
}

at::Tensor decode_heads(const at::Tensor& coded, std::int64_t size, int bits,
                        at::ScalarType dtype) {
  const std::int64_t count = code_bytes(size, bits);
  at::Tensor codes = coded.narrow(-1, 0, count);
  if (bits == 4)
    codes = at::stack({codes.bitwise_and(15), codes.bitwise_right_shift(4)}, -1)
                .flatten(-2)
                .narrow(-1, 0, size);
  // A copy, which starts where numbers of two bytes may.
  const at::Tensor ends = coded.narrow(-1, count, kEndsBytes)
                              .clone(at::MemoryFormat::Contiguous)
                              .view(at::kHalf)
                              .to(at::kFloat);
  return (codes.to(at::kFloat) * ends.narrow(-1, 0, 1) + ends.narrow(-1, 1, 1))
      .to(dtype);
}

at::Tensor round_heads(const at::Tensor& x, int bits) {
  const at::Tensor rounded =
      decode_heads(encode_heads(x, bits), x.size(-1), bits, x.scalar_type());
  return x.requires_grad() ? rounded + (x - x.detach()) : rounded;
}

}  // namespace autoglm
