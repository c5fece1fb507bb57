#include "model/rounded_vectors.h"

#include "model/dequantize.h"

namespace autoglm {

RoundedVectors round_vectors(const at::Tensor& x,
                             const ActivationScheme& scheme, bool float8) {
  const double most = float8 ? kFloat8Max : 127;
  const at::Tensor wide = x.to(at::kFloat);
  at::Tensor steps;
  if (scheme.dynamic()) {
    steps = wide.detach().abs().amax(-1, /*keepdim=*/true) / most;
    steps = at::where(steps == 0, at::ones_like(steps), steps);
  } else {
    steps = scheme.scale.to(at::kFloat);
  }
  const at::Tensor scaled = wide / steps;
  const at::Tensor bounded = at::clamp(scaled, -most, most);
  at::Tensor values =
      float8 ? float8_values(bounded.detach().to(at::kFloat8_e4m3fn))
             : bounded.detach().round();
  // A vector's own step cuts nothing off but a rounding error.
  const at::Tensor& through = scheme.dynamic() ? scaled : bounded;
  if (through.requires_grad()) values = values + (through - through.detach());
  return {values, steps};
}

}  // namespace autoglm
