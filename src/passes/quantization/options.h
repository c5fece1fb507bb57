// The options of the pass `quantization`, and what they say of each matrix.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/core/options.h"
#include "autoglm/model/model.h"
#include "passes/quantization/overrides.h"
#include "passes/quantization/quantizer.h"

namespace autoglm {

struct QuantizationOptions {
  AutoInt bits = {8};
  double average_bits = 0;
  ByteCount max_size;
  std::string method = "adaquant";
  std::string mode = "layer";
  std::string format = "int";
  std::int64_t group_size = 0;
  bool symmetric = true;
  std::string activations = "none";
  std::string folds = "none";
  std::int64_t kv_cache_bits = 0;
  std::vector<std::string> target_layers = {"*"};
  std::vector<std::string> ignore;
  std::vector<QuantizationOverride> overrides;
  std::int64_t head_bits = -1;
  std::int64_t embedding_bits = -1;
  std::int64_t iterations = -1;
  std::int64_t batch = 0;
  std::string optimizer = "adam";
  double code_rate = -1;
  double scale_rate = -1;
  double norm_rate = -1;
  bool scale_search = true;
  bool error_feedback = true;
  bool fisher = true;
  std::int64_t sweeps = 20;
  std::int64_t end_to_end = 0;
  double end_to_end_rate = 1e-3;

  template <class Field>
  void visit(Field&& field) {
    field("bits", bits,
          "width of a code; auto: by layer, within average_bits or max_size",
          Range{2, 8});
    field("average_bits", average_bits,
          "bits: auto: bits per weight of what is quantized, scales and zero "
          "points counted; 0: no such limit",
          Range{0, 16});
    field("max_size", max_size,
          "bits: auto: bytes of all weights of the model; 0: no such limit");
    field("method", method,
          "adaquant: learned rounding, scales, zero points, norms and biases; "
          "gptq: error feedback; mse: searched scales, inputs weighed; rtn: "
          "nearest rounding",
          quantization_methods());
    field(
        "mode", mode,
        "adaquant: what learns together: layer, one matrix at a time; block, "
        "then all matrices of a block towards its output, which takes several "
        "times as long",
        Choices{"layer", "block"});
    field("group_size", group_size,
          "inputs that share a scale; -1: a whole row; 0: a row for 8 bits, "
          "else the largest of 128, 64, 32, 16 that divides",
          Range{-1, 65536});
    field("symmetric", symmetric, "no zero points");
    field("format", format,
          "int: integer codes; fp8: e4m3 with one scale per row, nearest "
          "rounding, bits: 8; the embedding stays with integers",
          Choices{"int", "fp8"});
    field("activations", activations,
          "round what the matrices of blocks multiply too, to int8 or e4m3: "
          "dynamic, each token by its own range; static, by the calibration "
          "data's; needs fp8, or 8 symmetric bits with one scale per row",
          Choices{"none", "dynamic", "static"});
    field("folds", folds,
          "scale inputs down and the columns that read them up, where a norm "
          "or another matrix takes the scales: awq, by the mean size of "
          "inputs; smoothquant, by the greatest of inputs and weights; kept "
          "only where what a block returns gains on held-out windows",
          Choices{"none", "awq", "smoothquant"});
    field("kv_cache_bits", kv_cache_bits,
          "keep keys and values in 8 or 4 bits; 0: as the model has it",
          Range{0, 8});
    field("target_layers", target_layers,
          "matrices to quantize; globs over layer names");
    field("ignore", ignore, "matrices to leave as they are; globs");
    field("overrides", overrides,
          "what differs for some matrices; later entries win");
    field("head_bits", head_bits,
          "width for the output head, when selected; 0: leave it; -1: leave "
          "it, but 8 where head and embedding are over a fifth of the model",
          Range{-1, 8});
    field("embedding_bits", embedding_bits,
          "the same for the embedding; transformers loads no packed one, so "
          "0 where that matters",
          Range{-1, 8});
    field("iterations", iterations,
          "adaquant: learning steps per block (or matrix); -1: by layer none, "
          "by block 60, or 10 from 7 bits up",
          Range{-1, 100000});
    field("batch", batch,
          "calibration windows per step; 0: what makes 2048 tokens, at most 8",
          Range{0, 65536});
    field("optimizer", optimizer,
          "adaquant by block: sign of the gradient, or Adam",
          Choices{"adam", "sign"});
    field("code_rate", code_rate,
          "adaquant: learning rate of the codes, in grid steps; -1: 0.005 by "
          "layer, by block 0.02, or 1 / iterations for sign",
          Range{-1, 1});
    field("scale_rate", scale_rate,
          "adaquant: learning rate of log scales and of zero points in grid "
          "steps; -1: 0.0005 by layer, by block 0.001, or 1 / iterations for "
          "sign",
          Range{-1, 1});
    field("norm_rate", norm_rate,
          "adaquant by block: learning rate of norm gains and biases, in "
          "shares of their size; -1: as scale_rate; 0: they stay",
          Range{-1, 1});
    field("scale_search", scale_search,
          "adaquant, gptq: searched instead of full ranges");
    field("error_feedback", error_feedback,
          "adaquant: also start from error feedback (GPTQ)");
    field("fisher", fisher,
          "adaquant: measure errors by what they cost the predictions (Fisher "
          "information, one pass backward over the calibration data), not by "
          "their size");
    field(
        "sweeps", sweeps,
        "adaquant: rounds of coordinate descent over codes and scales, before "
        "learning, by layer also after it",
        Range{0, 1000});
    field("end_to_end", end_to_end,
          "adaquant: steps at the end that fit all scales and norms to the "
          "original's logits",
          Range{0, 100000});
    field("end_to_end_rate", end_to_end_rate,
          "learning rate of these steps (Adam), in log scales", Range{0, 1});
  }
};

/// How one matrix is quantized.
struct Scheme {
  Grid grid;
  std::string method;
  bool float8 = false;  // e4m3 in place of the grid; the method is rtn
  std::string activations = "none";
};

/// By canonical name, of every matrix to quantize. `chosen`: widths that were
/// chosen by layer; they take the place of `bits`, overrides still win. Throws
/// kConfig for what does not fit the model.
std::map<std::string, Scheme> quantization_schemes(
    const Model& model, const QuantizationOptions& options,
    const std::map<std::string, int>& chosen = {});

}  // namespace autoglm
