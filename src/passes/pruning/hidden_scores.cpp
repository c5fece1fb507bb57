#include "passes/pruning/hidden_scores.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/rng.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/forward.h"
#include "passes/backward_walk.h"
#include "passes/label_gradient.h"
#include "passes/pruning/hidden_channels.h"
#include "passes/pruning/obs.h"

namespace autoglm {
namespace {

constexpr std::int64_t kBatch = 8;  // windows at once

at::Tensor wide(const Weight& weight) { return to_dense(weight, at::kFloat); }

// Which norm of the stream a reader stands behind.
bool behind_input_norm(std::string_view name) {
  return name.starts_with("attention.");
}

// Squares, or absolute values, of all weights of a channel.
class WeightSums {
 public:
  WeightSums(const Model& model, Importance importance)
      : importance_(importance) {
    add(wide(model.embedding), 0);
    for (const Block& block : model.blocks) add(block);
    if (model.head) add(gained(wide(model.head->weight), model.final_norm), 0);
  }
  at::Tensor scores() const {
    return importance_ == Importance::kL1 ? sums_ : sums_.sqrt();
  }

 private:
  at::Tensor gained(const at::Tensor& weight, const Norm& norm) const {
    return importance_ == Importance::kNormGain
               ? weight * norm.gain.to(at::kFloat)
               : weight;
  }
  // dim: along which to add up.
  void add(const at::Tensor& weight, std::int64_t dim) {
    const at::Tensor values =
        importance_ == Importance::kL1 ? weight.abs() : weight.square();
    const at::Tensor sums = values.sum(dim);
    const at::Tensor share = sums / sums.sum().clamp_min(1e-30);
    sums_ = sums_.defined() ? sums_ + share : share;
  }
  void add(const Block& block) {
    const auto reads = [&](const std::string& name, const at::Tensor& weight) {
      add(gained(weight, behind_input_norm(name) ? block.input_norm
                                                 : block.middle_norm),
          0);
    };
    visit_block(
        block,
        [&](const std::string& name, const Linear& part) {
          const HiddenRole role = hidden_role(name);
          if (role == HiddenRole::kReads) reads(name, wide(part.weight));
          if (role == HiddenRole::kWrites) add(wide(part.weight), 1);
        },
        [&](const std::string& name, const at::Tensor& values) {
          if (hidden_role(name) == HiddenRole::kReads)
            reads(name, values.to(at::kFloat));
        });
  }

  Importance importance_;
  at::Tensor sums_;
};

// W'W of all that reads what the input norm of a block gives, or its middle
// norm. Of routed experts a token uses a few.
at::Tensor readers_gram(const Model& model, const Block& block,
                        bool attention) {
  at::Tensor sum;
  const double used =
      block.is_mixture()
          ? static_cast<double>(model.architecture.router.per_token) /
                static_cast<double>(block.mixture.experts.size())
          : 1;
  const auto add = [&](const std::string& name, const at::Tensor& weight) {
    if (hidden_role(name) != HiddenRole::kReads ||
        behind_input_norm(name) != attention)
      return;
    const double share = name.starts_with("mlp.experts.") ? used : 1;
    const at::Tensor own = at::mm(weight.t(), weight) * share;
    sum = sum.defined() ? sum + own : own;
  };
  visit_block(
      block,
      [&](const std::string& name, const Linear& part) {
        add(name, wide(part.weight));
      },
      [&](const std::string& name, const at::Tensor& values) {
        if (hidden_role(name) == HiddenRole::kReads)
          add(name, values.to(at::kFloat));
      });
  return sum;
}

// Second moments of what every norm of the stream gives, with what reads it.
class NormMoments {
 public:
  explicit NormMoments(Importance importance) : importance_(importance) {}

  // gram: W'W [H, H] of the readers.
  void add(const Moments& given, const at::Tensor& gram) {
    const Moments own =
        importance_ == Importance::kFluctuation ? given.centred() : given;
    if (importance_ != Importance::kObs) {
      add_share(sums_,
                own.compressed.diagonal().clamp_min(0) * gram.diagonal());
      return;
    }
    // As much weight for each norm, in errors per token and output.
    const double energy = (gram * own.compressed).sum().item<double>();
    if (!(energy > 0)) return;
    const double size = own.compressed.diagonal().sum().item<double>();
    add_to(pooled_.compressed, own.compressed / size);
    add_to(gram_, gram * (size / energy));
    pooled_.tokens += 1;
  }

  at::Tensor scores(std::int64_t left) const {
    if (importance_ == Importance::kActivation) return sums_.sqrt();
    if (importance_ == Importance::kFluctuation) return sums_;
    // Any W with this W'W gives the same errors.
    const auto [values, vectors] = at::linalg_eigh(gram_.to(at::kDouble));
    const at::Tensor weight =
        (vectors * values.clamp_min(0).sqrt()).t().to(at::kFloat);
    return obs_scores(weight.contiguous(), pooled_, 1, left);
  }

 private:
  static void add_to(at::Tensor& sum, const at::Tensor& more) {
    sum = sum.defined() ? sum + more : more;
  }
  static void add_share(at::Tensor& sum, const at::Tensor& more) {
    add_to(sum, more / more.sum().clamp_min(1e-30));
  }

  Importance importance_;
  at::Tensor sums_, gram_;
  Moments pooled_;
};

at::Tensor data_scores(const Model& model, const at::Tensor& windows,
                       Importance importance, std::int64_t left) {
  const at::NoGradGuard no_grad;
  Stream stream;
  Contexts contexts;
  for (const at::Tensor& ids : windows.split(kBatch)) {
    contexts.push_back(attention_context(model, ids));
    stream.push_back(
        embed(model, model.embedding, ids, contexts.back(), at::kFloat));
  }
  NormMoments sums(importance);
  const auto add = [&](const auto& given, const at::Tensor& gram) {
    Moments moments;
    for (std::size_t b = 0; b < stream.size(); ++b) {
      check_interrupted();
      moments.add({}, given(b));
    }
    sums.add(moments, gram);
  };
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Block& block = model.blocks[i];
    const auto layer = static_cast<std::int64_t>(i);
    const auto site = [&](Site which) {
      return [&, which](std::size_t b) {
        return site_input(model, block, layer, stream[b], contexts[b], which);
      };
    };
    if (block.has_attention())
      add(site(Site::kAttention), readers_gram(model, block, true));
    if (block.has_mlp())
      add(site(Site::kMlp), readers_gram(model, block, false));
    for (std::size_t b = 0; b < stream.size(); ++b)
      stream[b] = block_forward(model, block, layer, stream[b], contexts[b]);
  }
  const at::Tensor head = wide(head_weight(model));
  add([&](std::size_t b) { return final_hidden(model, stream[b]); },
      at::mm(head.t(), head));
  return sums.scores(left);
}

at::Tensor gradient_scores(const Model& model, const at::Tensor& windows,
                           std::int64_t prefix, bool taylor,
                           std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  Rng rng(seed);
  at::Tensor sum;
  const auto add = [&](const at::Tensor& x, const at::Tensor& gradient) {
    const at::Tensor of_channel = (x * gradient).sum(at::IntArrayRef{0, 1});
    const at::Tensor one = taylor ? of_channel.abs() : of_channel.square();
    sum = sum.defined() ? sum + one : one;
  };
  for (const at::Tensor& ids : windows.split(1)) {
    BackwardWalk walk(model, ids,
                      [&](std::size_t i) { return model.blocks[i]; });
    at::Tensor gradient = at::zeros_like(walk.output());
    const at::Tensor states = text_positions(walk.output(), prefix);
    text_positions(gradient, prefix)
        .copy_(label_gradient(model, states.flatten(0, 1),
                              taylor ? next_tokens(ids, prefix) : at::Tensor(),
                              rng)
                   .view_as(states));
    add(walk.output(), gradient);
    walk.backward(
        gradient, [&](std::size_t i, const at::Tensor& input,
                      AttentionContext& context, const at::Tensor& from) {
          if (i == 0) return;
          {
            const at::AutoGradMode with_gradients(true);
            block_forward(model, model.blocks[i], static_cast<std::int64_t>(i),
                          input, context)
                .backward(from);
          }
          add(input.detach(), input.grad());
        });
  }
  sum = sum / static_cast<double>(windows.size(0));
  if (!at::isfinite(sum.sum()).item<bool>())
    fail(ErrorKind::kNumeric,
         "structured_pruning: the gradients of the model over the calibration "
         "data are NaN or infinite");
  return sum;
}

}  // namespace

at::Tensor hidden_scores(const Model& model, const at::Tensor& windows,
                         std::int64_t prefix, Importance importance,
                         std::int64_t left, std::uint64_t seed) {
  if (importance == Importance::kRandom)
    return at::tensor(Rng(seed).permutation(model.architecture.hidden),
                      at::kLong)
        .to(device(model.embedding), at::kFloat);
  if (!needs_moments(importance) && !needs_gradients(importance))
    return WeightSums(model, importance).scores();
  AUTOGLM_ENSURE(windows.defined());
  return needs_gradients(importance)
             ? gradient_scores(model, windows, prefix,
                               importance == Importance::kTaylor, seed)
             : data_scores(model, windows, importance, left);
}

}  // namespace autoglm
