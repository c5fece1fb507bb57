// What the routed experts of a block receive in both streams of the block walk.
// Each sees only the tokens that are sent to it, and what it makes of a token
// counts by the token's routing weight; so do its rows here.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "autoglm/model/mlp.h"
#include "passes/layer_moments.h"

namespace autoglm {

class ExpertInputs {
 public:
  /// An expert that was sent fewer tokens teaches nothing.
  static constexpr std::int64_t kFewestTokens = 32;

  /// `working`: the block as compressed so far; its router chooses the experts
  /// of both streams, as it will when the model is used.
  ExpertInputs(const Model& model, const BlockVisit& visit,
               const Block& working, Streams streams = Streams::kBoth);

  std::int64_t tokens(std::size_t expert) const;
  /// Of what gate and up receive [H, H]; none: too few tokens.
  std::optional<SplitMoments> inner(std::size_t expert) const;
  /// Of what down receives [F, F], from the expert as it was and as it is.
  std::optional<SplitMoments> down(std::size_t expert, const Mlp& original,
                                   const Mlp& working) const;

  /// What every token brings in the compressed stream [tokens, H].
  const at::Tensor& inputs() const { return compressed_; }
  /// What the expert adds to the stream there for each of its own tokens
  /// [m, H], routing weight included.
  at::Tensor outputs(std::size_t expert, const Mlp& working) const;

  /// Mean square of each input [H] or [F] over the tokens of all experts, as if
  /// every one of them were sent to this one: for experts with too few.
  at::Tensor importance_inner() const;
  at::Tensor importance_down(const Mlp& working) const;

 private:
  struct Rows {
    at::Tensor original, compressed;  // [m, H]; one stream: no original
    at::Tensor weights;               // [m, 1]
  };
  Rows rows(std::size_t expert) const;

  const Architecture& architecture_;
  at::Tensor original_, compressed_;  // [tokens, H]; one stream: no original
  std::vector<ExpertTokens> experts_;
};

}  // namespace autoglm
