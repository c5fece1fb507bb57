#include "passes/pruning/unit_gradients.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/error.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/forward.h"
#include "passes/backward_walk.h"
#include "passes/label_gradient.h"

namespace autoglm {
std::vector<UnitGradients> unit_gradients(
    const Model& model, const at::Tensor& windows, std::int64_t prefix,
    GradientScore score, std::uint64_t seed,
    const std::function<bool(const std::string&)>& wanted) {
  const at::NoGradGuard no_grad;
  const Architecture& a = model.architecture;
  // Units of neighbouring columns, by the matrix that reads them.
  std::vector<std::map<std::string, std::int64_t>> readers(model.blocks.size());
  for (std::size_t i = 0; i < readers.size(); ++i)
    visit_block(
        model.blocks[i],
        [&](const std::string& name, const Linear&) {
          const bool heads = name == "attention.output";
          if ((heads || name.ends_with("down")) &&
              wanted(fmt::format("layers.{}.{}", i, name)))
            readers[i][name] = heads ? a.value_size : 1;
        },
        [](const std::string&, const at::Tensor&) {});
  std::vector<UnitGradients> out(readers.size());
  Rng rng(seed);
  Progress progress(
      score == GradientScore::kTaylor ? "taylor scores" : "fisher scores",
      windows.size(0), "windows");
  for (const at::Tensor& ids : windows.split(1)) {
    BackwardWalk walk(model, ids,
                      [&](std::size_t i) { return model.blocks[i]; });
    at::Tensor gradient = at::zeros_like(walk.output());
    const at::Tensor states = text_positions(walk.output(), prefix);
    const at::Tensor labels = score == GradientScore::kTaylor
                                  ? next_tokens(ids, prefix)
                                  : at::Tensor();
    text_positions(gradient, prefix)
        .copy_(label_gradient(model, states.flatten(0, 1), labels, rng)
                   .view_as(states));
    walk.backward(gradient, [&](std::size_t i, const at::Tensor& input,
                                AttentionContext& context,
                                const at::Tensor& from) {
      if (readers[i].empty() && i == 0) return;
      Block block = model.blocks[i];
      std::map<std::string, at::Tensor> leaves;
      for (const auto& [name, size] : readers[i]) {
        Linear& linear = *find_linear(block, name);
        // A copy: to_dense may give the model's own tensor.
        leaves[name] =
            to_dense(linear.weight, at::kFloat).clone().requires_grad_(true);
        linear.weight = DenseWeight{leaves[name]};
      }
      {
        const at::AutoGradMode with_gradients(true);
        block_forward(model, block, static_cast<std::int64_t>(i), input,
                      context)
            .backward(from);
      }
      for (const auto& [name, leaf] : leaves) {
        if (!leaf.grad().defined()) continue;
        const at::Tensor units =
            (leaf * leaf.grad()).sum(0).view({-1, readers[i][name]}).sum(-1);
        const auto add = [&](const std::string& unit, const at::Tensor& value) {
          const at::Tensor one =
              score == GradientScore::kTaylor ? value.abs() : value.square();
          at::Tensor& sum = out[i][unit];
          sum = sum.defined() ? sum + one : one;
        };
        add(name, units);
        // "mlp.experts.3.down": expert 3 as a whole.
        if (name.starts_with("mlp.experts."))
          add(name.substr(0, name.rfind('.')), units.sum());
      }
    });
    progress.step();
  }
  for (UnitGradients& block : out)
    for (auto& [name, sum] : block) {
      sum = sum / static_cast<double>(windows.size(0));
      if (!at::isfinite(sum.sum()).item<bool>())
        fail(ErrorKind::kNumeric,
             "structured_pruning: the gradients of the model over the "
             "calibration data are NaN or infinite");
    }
  return out;
}

}  // namespace autoglm
