#include "passes/pruning/hidden_gains.h"

#include <cmath>

namespace autoglm {
namespace {

at::Tensor row_squares(const Linear& linear) {
  return to_dense(linear.weight, at::kFloat).square().sum(1);
}

// Of everything that the MLP of a block writes.
at::Tensor mlp_squares(const Model& model, const Block& block) {
  if (!block.is_mixture()) return row_squares(block.mlp.down);
  const Mixture& mixture = block.mixture;
  const double used = static_cast<double>(model.architecture.router.per_token) /
                      static_cast<double>(mixture.experts.size());
  at::Tensor sum = at::zeros({model.architecture.hidden},
                             mixture.router.options().dtype(at::kFloat));
  for (const Mlp& expert : mixture.experts)
    sum = sum + row_squares(expert.down) * used;
  return mixture.shared.down.present() ? sum + row_squares(mixture.shared.down)
                                       : sum;
}

class Scaler {
 public:
  Scaler(const Model& model, const at::Tensor& kept)
      : kept_(kept),
        replaces_(model.architecture.normed_residual),
        residual_scale_(model.architecture.residual_scale),
        squares_(to_dense(model.embedding, at::kFloat).square().mean(0)) {}

  void scale(Norm& norm, const at::Tensor& squares) const {
    const double all = squares.mean().item<double>();
    const double stay = squares.index_select(0, kept_).mean().item<double>();
    if (all > 0 && stay > 0) norm.gain = norm.gain * std::sqrt(stay / all);
  }
  void scale(Norm& norm) const { scale(norm, squares_); }

  // A part was run: `written` are the squares of what it adds.
  void add(const at::Tensor& written, const Norm& before, const Norm& behind,
           Norm& narrow_behind) {
    at::Tensor added = written;
    if (behind.gain.defined()) {
      scale(narrow_behind, written);
      added = behind.gain.to(at::kFloat).square() * written / written.mean();
    }
    at::Tensor stream = squares_;
    if (replaces_)
      stream = (before.gain.to(at::kFloat) * residual_scale_).square() *
               squares_ / squares_.mean();
    squares_ = stream + added;
  }

 private:
  at::Tensor kept_;
  bool replaces_;  // the stream by the normed input of a part, scaled
  double residual_scale_;
  at::Tensor squares_;
};

}  // namespace

void scale_norms(const Model& model, const at::Tensor& kept, Model& narrow) {
  Scaler scaler(model, kept);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Block& block = model.blocks[i];
    Block& now = narrow.blocks[i];
    if (block.has_attention()) {
      scaler.scale(now.input_norm);
      scaler.add(row_squares(block.attention.output), block.input_norm,
                 block.after_attention_norm, now.after_attention_norm);
    }
    if (block.has_mlp()) {
      scaler.scale(now.middle_norm);
      scaler.add(mlp_squares(model, block), block.middle_norm,
                 block.after_mlp_norm, now.after_mlp_norm);
    }
  }
  scaler.scale(narrow.final_norm);
}

}  // namespace autoglm
