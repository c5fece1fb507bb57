// The options of the pass `structured_pruning`, and the widths they ask for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autoglm/core/options.h"
#include "autoglm/model/model.h"
#include "passes/pruning/prune_block.h"

namespace autoglm {

struct PruningOptions {
  double sparsity_ratio = 0.2;
  std::int64_t target_parameters = 0;
  ByteCount target_size;
  double threshold = 0;
  std::string allocation = "uniform";
  std::vector<std::string> target_layers = {"encoder.block.*"};
  std::string importance = "activation";
  std::int64_t align = 0;
  bool heads = true;
  bool kv_groups = false;
  bool ffn = true;
  double experts = 0;
  double hidden = 0;
  std::string repair = "least_squares";
  bool new_biases = false;
  bool fisher = false;
  bool uniform = false;

  template <class Field>
  void visit(Field&& field) {
    field("sparsity_ratio", sparsity_ratio,
          "share of channels and query heads to remove from what is selected",
          Range{0, 0.9});
    field("target_parameters", target_parameters,
          "in place of sparsity_ratio: parameters that the whole model may "
          "have; 0: no such limit",
          Range{0, 1e15});
    field("target_size", target_size,
          "in place of sparsity_ratio: bytes that all weights of the model may "
          "take; 0: no such limit");
    field("threshold", threshold,
          "in place of sparsity_ratio: what scores less than this share of the "
          "mean of its layer and part goes; 0: nothing does",
          Range{0, 100});
    field("allocation", allocation,
          "widths of layers: uniform; global, where the scores of all layers "
          "say, within as many parameters; sensitivity, where the measured "
          "divergence of cutting each part alone does",
          Choices{"uniform", "global", "sensitivity"});
    field("target_layers", target_layers,
          "blocks to prune; globs over layer names");
    field(
        "importance", importance,
        "l1, l2: norms of weights; norm_gain: l2 times gains of norms; "
        "activation: weight norm times rms of the input; fluctuation: squared "
        "times variance; taylor, fisher: gradients of the loss; obs: what "
        "the best repair cannot make up for; random",
        Choices{"activation", "l1", "l2", "norm_gain", "fluctuation", "taylor",
                "fisher", "obs", "random"});
    field(
        "align", align,
        "FFN widths and the hidden one are multiples of this; 0: 256, 64, 8 or "
        "1 by width",
        Range{0, 4096});
    field("heads", heads, "remove query heads");
    field("kv_groups", kv_groups,
          "remove heads by whole groups that share a key and a value, not the "
          "same number from each");
    field("ffn", ffn, "remove FFN channels");
    field(
        "experts", experts,
        "share of whole routed experts to remove from every selected mixture, "
        "beside sparsity_ratio; as many stay as a token is sent to",
        Range{0, 0.9});
    field("hidden", hidden,
          "share of the channels of the residual stream to remove, the same "
          "ones in all blocks, whatever target_layers says, and first of all",
          Range{0, 0.9});
    field(
        "repair", repair,
        "of down and output (of experts: the shared one's down; of hidden: all "
        "that reads or writes the stream), against the original's outputs: "
        "none; bias: the mean of what went; least_squares: their columns are "
        "fitted again",
        Choices{"least_squares", "bias", "none"});
    field("new_biases", new_biases,
          "least_squares may add biases to matrices that have none, as bias "
          "does; stock loaders ignore them");
    field("fisher", fisher,
          "repair and obs weigh errors by what they cost the predictions "
          "(Fisher information, one pass backward over the calibration data)");
    field("uniform", uniform,
          "refuse what stock loaders cannot read: widths that differ between "
          "layers, new biases");
  }
};

/// What an FFN width is a multiple of; `align` 0: as suits the width.
std::int64_t ffn_alignment(std::int64_t ffn, std::int64_t align);

/// The channels of a residual stream of `hidden` that stay.
std::int64_t hidden_left(std::int64_t hidden, const PruningOptions& options);

/// What each block is cut to if all selected ones keep the same share. Throws
/// kConfig for a selection, a limit or a form of weights that does not allow
/// it.
std::vector<PruningTarget> uniform_targets(const Model& model,
                                           const PruningOptions& options);

/// Widths that one part of a block may be cut to, the widest, which it has now,
/// first; about a dozen.
std::vector<BlockWidths> width_levels(const BlockWidths& from, Part part,
                                      const PruningOptions& options);

/// The width next above a count of channels, or of heads, that is possible.
BlockWidths width_for(const BlockWidths& from, Part part, std::int64_t count,
                      const PruningOptions& options);

}  // namespace autoglm
