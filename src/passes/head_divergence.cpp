#include "passes/head_divergence.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "autoglm/model/forward.h"

namespace autoglm {

double head_divergence(const Model& original, const at::Tensor& taught,
                       const Model& student, const at::Tensor& states,
                       double temperature) {
  constexpr std::int64_t kLogitElements = std::int64_t{1} << 25;
  const std::int64_t step = std::max<std::int64_t>(
      1, kLogitElements / student.architecture.vocabulary);
  const double t = temperature;
  const auto log_probabilities = [&](const Model& model, const at::Tensor& x) {
    return at::log_softmax(head_forward(model, x).to(at::kFloat) / t, -1);
  };
  double sum = 0;
  for (std::int64_t p = 0; p < states.size(0); p += step) {
    const std::int64_t n = std::min(step, states.size(0) - p);
    at::Tensor log_q;
    {
      const at::NoGradGuard no_grad;
      log_q = log_probabilities(original, taught.narrow(0, p, n));
    }
    const at::AutoGradMode mode(states.requires_grad());
    const at::Tensor log_p = log_probabilities(student, states.narrow(0, p, n));
    const at::Tensor part = (log_q.exp() * (log_q - log_p)).sum() *
                            (t * t / static_cast<double>(states.size(0)));
    if (states.requires_grad()) part.backward();
    sum += part.item<double>();
  }
  return sum;
}

}  // namespace autoglm
