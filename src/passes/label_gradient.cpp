#include "passes/label_gradient.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "autoglm/model/forward.h"

namespace autoglm {
namespace {

// log_p [n, V] -> int64 [n, 1].
at::Tensor drawn_labels(const at::Tensor& log_p, Rng& rng) {
  at::Tensor uniform = at::empty({log_p.size(0), 1}, at::kDouble);
  auto* draws = uniform.mutable_data_ptr<double>();
  std::generate(draws, draws + log_p.size(0), [&] { return rng.uniform(); });
  return (log_p.exp().cumsum(-1, at::kDouble) < uniform.to(log_p.device()))
      .sum(-1, /*keepdim=*/true)
      .clamp_max(log_p.size(1) - 1);
}

}  // namespace

at::Tensor label_gradient(const Model& model, const at::Tensor& states,
                          const at::Tensor& labels, Rng& rng) {
  constexpr std::int64_t kLogitElements = std::int64_t{1} << 23;
  const std::int64_t step =
      std::max<std::int64_t>(1, kLogitElements / model.architecture.vocabulary);
  const at::Tensor leaf = states.detach().clone().requires_grad_(true);
  for (std::int64_t at = 0; at < leaf.size(0); at += step) {
    const std::int64_t n = std::min(step, leaf.size(0) - at);
    const at::AutoGradMode with_gradients(true);
    const at::Tensor log_p = at::log_softmax(
        head_forward(model, leaf.narrow(0, at, n)).to(at::kFloat), -1);
    const at::Tensor label = labels.defined()
                                 ? labels.narrow(0, at, n).unsqueeze(1)
                                 : drawn_labels(log_p.detach(), rng);
    log_p.gather(-1, label).sum().neg().backward();
  }
  return leaf.grad();
}

at::Tensor next_tokens(const at::Tensor& ids, std::int64_t prefix) {
  return text_positions(at::roll(ids, -1, 1).unsqueeze(-1), prefix).flatten();
}

}  // namespace autoglm
