#include "autoglm/model/mlp.h"

#include <limits>

#include "autoglm/core/error.h"
#include "model/device_stream.h"

namespace autoglm {
namespace {

at::Tensor apply(const Linear& linear, const at::Tensor& x) {
  return apply_linear(x, linear.weight, linear.bias);
}

at::Tensor silu_product(const at::Tensor& gate, const at::Tensor& up) {
  if (at::Tensor y = device_silu_product(gate, up); y.defined()) return y;
  return at::silu(gate) * up;
}

// Only the experts of the best groups stay; a group's score is the sum of its
// two best.
at::Tensor keep_best_groups(const RouterRule& rule, const at::Tensor& scores) {
  const at::Tensor grouped =
      scores.unflatten(-1, {rule.groups, scores.size(-1) / rule.groups});
  const at::Tensor of_group = std::get<0>(grouped.topk(2, -1)).sum(-1);
  const at::Tensor best = std::get<1>(of_group.topk(rule.kept_groups, -1));
  const at::Tensor kept = at::zeros_like(of_group, at::kBool)
                              .scatter(-1, best, true)
                              .unsqueeze(-1)
                              .expand_as(grouped)
                              .flatten(-2);
  return scores.masked_fill(kept.logical_not(),
                            -std::numeric_limits<float>::infinity());
}

}  // namespace

at::Tensor mlp_values(const Architecture& a, const Mlp& mlp,
                      const at::Tensor& x) {
  if (mlp.gate_up.present()) {
    const std::int64_t ffn = columns(mlp.down.weight);
    const at::Tensor both = apply(mlp.gate_up, x);
    return silu_product(both.narrow(-1, 0, ffn), both.narrow(-1, ffn, ffn));
  }
  if (mlp.gate.present()) {
    const std::vector<at::Tensor> both = apply_linears(x, {&mlp.gate, &mlp.up});
    return silu_product(both[0], both[1]);
  }
  return at::gelu(apply(mlp.up, x),
                  a.family->mlp == MlpKind::kGeluTanh ? "tanh" : "none");
}

Routing route(const RouterRule& rule, const Mixture& mixture,
              const at::Tensor& x) {
  const at::Tensor scores =
      at::sigmoid(at::mm(x.to(at::kFloat), mixture.router.to(at::kFloat).t()));
  at::Tensor choice = scores.detach() + mixture.correction_bias.to(at::kFloat);
  if (rule.groups > 1) choice = keep_best_groups(rule, choice);
  Routing out;
  out.experts = std::get<1>(choice.topk(rule.per_token, -1));
  out.weights = scores.gather(-1, out.experts);
  if (rule.normalize)
    out.weights = out.weights / (out.weights.sum(-1, true) + 1e-20);
  out.weights = out.weights * rule.scale;
  return out;
}

std::vector<ExpertTokens> tokens_by_expert(const Routing& routing,
                                           std::size_t experts) {
  const std::int64_t per_token = routing.experts.size(1);
  const at::Tensor flat = routing.experts.flatten();
  const at::Tensor order =
      std::get<1>(at::sort(flat, /*stable=*/true, 0, false));
  const at::Tensor counts =
      at::bincount(flat, {}, static_cast<std::int64_t>(experts)).to(at::kCPU);
  const at::Tensor tokens = at::floor_divide(order, per_token);
  const at::Tensor weights = routing.weights.flatten().index_select(0, order);
  std::vector<ExpertTokens> out;
  std::int64_t begin = 0;
  for (std::size_t e = 0; e < experts; ++e) {
    const std::int64_t count =
        counts.const_data_ptr<std::int64_t>()[static_cast<std::ptrdiff_t>(e)];
    out.push_back(
        {tokens.narrow(0, begin, count), weights.narrow(0, begin, count)});
    begin += count;
  }
  return out;
}

at::Tensor mixture_forward(const Architecture& a, const Mixture& mixture,
                           const at::Tensor& x) {
  const at::Tensor flat = x.reshape({-1, x.size(-1)});
  const auto run = [&](const Mlp& mlp, const at::Tensor& tokens) {
    return apply(mlp.down, mlp_values(a, mlp, tokens));
  };
  const Routing routing = route(a.router, mixture, flat);
  const auto by_expert = tokens_by_expert(routing, mixture.experts.size());
  at::Tensor out = mixture.shared.down.present() ? run(mixture.shared, flat)
                                                 : at::zeros_like(flat);
  for (std::size_t e = 0; e < by_expert.size(); ++e) {
    const ExpertTokens& mine = by_expert[e];
    if (mine.tokens.size(0) == 0) continue;
    const at::Tensor y =
        run(mixture.experts[e], flat.index_select(0, mine.tokens));
    out.index_add_(0, mine.tokens,
                   y * mine.weights.unsqueeze(-1).to(y.scalar_type()));
  }
  return out.view(x.sizes());
}

}  // namespace autoglm
