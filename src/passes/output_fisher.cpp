#include "passes/output_fisher.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/dense_product.h"
#include "passes/backward_walk.h"
#include "passes/label_gradient.h"

namespace autoglm {
namespace {

constexpr std::int64_t kWholeOutputs = 4096, kPartOutputs = 1024;
constexpr double kDamping = 0.03;  // of the mean diagonal

// Sums over the tokens of one matrix.
struct Sums {
  OutputMetric outputs;
  std::vector<at::Tensor> tokens;  // |g|^2, by batch [B, T]

  void add(const at::Tensor& gradient /* [B, T, out] */) {
    const at::Tensor g = gradient.flatten(0, 1);
    const std::int64_t out = g.size(1);
    const std::int64_t step = out <= kWholeOutputs ? out : kPartOutputs;
    const std::vector<at::Tensor> parts = g.split(step, 1);
    const bool first = outputs.empty();
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (first)
        outputs.push_back(inner_product(parts[i], parts[i]));
      else
        outputs[i].add_(inner_product(parts[i], parts[i]));
    tokens.push_back(gradient.square().sum(-1));
  }
};

struct BlockSums {
  std::map<std::string, Sums> matrices;  // by name below the block
  Sums output;
};

// A block whose matrices have a bias per token [B, T, out], leaves that take
// the gradients at their outputs.
Block with_output_leaves(const Block& block,
                         const std::vector<std::string>& names,
                         const at::Tensor& x,
                         std::map<std::string, at::Tensor>& leaves) {
  Block out = block;
  for (const std::string& name : names) {
    Linear& linear = *find_linear(out, name);
    at::Tensor leaf =
        at::zeros({x.size(0), x.size(1), rows(linear.weight)}, x.options());
    if (linear.bias.defined()) leaf += linear.bias;
    linear.bias = leaf.requires_grad_(true);
    leaves[name] = leaf;
  }
  return out;
}

OutputMetric normed(OutputMetric sums) {
  double trace = 0, count = 0;
  for (const at::Tensor& part : sums) {
    trace += part.trace().item<double>();
    count += static_cast<double>(part.size(0));
  }
  // Outputs that nothing depends on are all alike.
  const double mean = trace > 0 ? trace / count : 1;
  for (at::Tensor& part : sums) {
    part.div_(mean);
    part.diagonal().add_(trace > 0 ? kDamping : 1);
  }
  return sums;
}

// |g|^2 of all tokens, of mean 1; undefined where nothing depends on them.
at::Tensor token_weights(const Sums& sums) {
  const at::Tensor all = at::cat(sums.tokens);
  const double mean = all.mean().item<double>();
  return mean > 0 ? all / mean : at::Tensor();
}

BlockFisher finish(const std::vector<SiteMatrices>& sites, BlockSums& sums) {
  BlockFisher out;
  if (sums.matrices.empty()) return out;
  out.block_tokens = token_weights(sums.output);
  if (out.block_tokens.defined())
    out.block_output = normed(std::move(sums.output.outputs));
  for (const SiteMatrices& site : sites) {
    at::Tensor weights;
    for (const std::string& name : site.names) {
      const auto found = sums.matrices.find(name);
      if (found == sums.matrices.end()) continue;
      const at::Tensor own = token_weights(found->second);
      if (own.defined()) weights = weights.defined() ? weights + own : own;
      out.outputs[name] = normed(std::move(found->second.outputs));
    }
    if (weights.defined()) out.tokens[site.site] = weights / weights.mean();
  }
  return out;
}

}  // namespace

std::vector<BlockFisher> output_fisher(const Model& model,
                                       const at::Tensor& windows,
                                       std::int64_t prefix,
                                       const FisherOptions& options,
                                       const std::function<void()>& tick) {
  const at::NoGradGuard no_grad;
  std::vector<std::vector<std::string>> names(model.blocks.size());
  for (std::size_t i = 0; i < names.size(); ++i)
    for (const SiteMatrices& site : block_sites(model.blocks[i]))
      for (const std::string& name : site.names)
        if (options.wanted(fmt::format("layers.{}.{}", i, name)))
          names[i].push_back(name);
  const bool none = std::all_of(names.begin(), names.end(),
                                [](const auto& own) { return own.empty(); });
  if (none) return std::vector<BlockFisher>(names.size());
  std::vector<BlockSums> sums(names.size());
  Rng rng(options.seed);
  const auto as_is = [&](std::size_t i) { return model.blocks[i]; };
  for (const at::Tensor& ids : windows.split(options.batch)) {
    tick();
    BackwardWalk walk(model, ids, as_is);
    at::Tensor gradient = at::zeros_like(walk.output());
    const at::Tensor states = text_positions(walk.output(), prefix);
    text_positions(gradient, prefix)
        .copy_(label_gradient(model, states.flatten(0, 1), {}, rng)
                   .view_as(states));
    walk.backward(
        gradient, [&](std::size_t i, const at::Tensor& input,
                      AttentionContext& context, const at::Tensor& from) {
          std::map<std::string, at::Tensor> leaves;
          const Block block =
              with_output_leaves(model.blocks[i], names[i], input, leaves);
          if (leaves.empty() && i == 0) return;
          {
            const at::AutoGradMode with_gradients(true);
            block_forward(model, block, static_cast<std::int64_t>(i), input,
                          context)
                .backward(from);
          }
          for (const auto& [name, leaf] : leaves)
            if (leaf.grad().defined()) sums[i].matrices[name].add(leaf.grad());
          if (!leaves.empty()) sums[i].output.add(from);
        });
  }
  std::vector<BlockFisher> out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    out.push_back(finish(block_sites(model.blocks[i]), sums[i]));
    sums[i] = {};
  }
  for (const BlockFisher& block : out)
    for (const auto& [site, weights] : block.tokens)
      if (!at::isfinite(weights.sum()).item<bool>())
        fail(ErrorKind::kNumeric,
             "the gradients of the model over the calibration data are NaN or "
             "infinite");
  return out;
}

}  // namespace autoglm
