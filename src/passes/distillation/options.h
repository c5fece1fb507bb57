// The options of the pass `distillation`.
#pragma once

#include <cstdint>
#include <string>

#include "autoglm/core/options.h"

namespace autoglm {

struct DistillationOptions {
  double minutes = 0;
  std::int64_t steps = 0;
  double epochs = 1;
  double learning_rate = 1e-3;
  std::int64_t batch = 8;
  double temperature = 1;
  double warmup = 0.03;
  double weight_decay = 0.01;
  double max_grad_norm = 1;
  double holdout = 0.03;
  bool train_embedding = true;
  bool train_head = true;
  std::string precision = "fp32";
  double sparsity = 0;
  double latency_target = 0;
  double sparsity_start = 0;
  double sparsity_end = 0.5;
  std::int64_t mask_interval = 20;
  double regrow = 0.1;
  std::string importance = "obs";
  std::string repair = "least_squares";
  double group_lasso = 0.1;
  double latency_weight = 1;
  std::int64_t align = 0;
  bool ffn = true;
  bool heads = false;
  bool kv_groups = false;

  /// Units are taken away while it trains.
  bool prunes() const { return sparsity > 0 || latency_target > 0; }

  template <class Field>
  void visit(Field&& field) {
    field("minutes", minutes, "time limit; 0: none", Range{0, 1e6});
    field("steps", steps, "optimizer steps; 0: by epochs", Range{0, 1e9});
    field("epochs", epochs,
          "passes over the training windows, unless minutes or steps say",
          Range{0.001, 1e6});
    field("learning_rate", learning_rate, "peak rate of AdamW", Range{1e-8, 1});
    field("batch", batch, "windows per step", Range{1, 65536});
    field("temperature", temperature, "softens both distributions",
          Range{0.1, 100});
    field("warmup", warmup, "share of the run with a rising rate",
          Range{0, 0.5});
    field("weight_decay", weight_decay, "of matrices", Range{0, 10});
    field("max_grad_norm", max_grad_norm, "gradients are clipped to it",
          Range{1e-6, 1e6});
    field("holdout", holdout, "share of windows that judges, not trains",
          Range{0.001, 0.5});
    field("train_embedding", train_embedding, "also change the embedding");
    field("train_head", train_head, "also change the output head");
    field("precision", precision, "of the student's and original's forward",
          Choices{"fp32", "bf16"});
    field("sparsity", sparsity,
          "pruning while training: share of the FFN channels (and heads, by "
          "their parameters) that is masked step by step and cut at the end; "
          "the best held-out state after the last masks is kept, even if the "
          "start was better; routed and shared experts stay; 0: off",
          Range{0, 0.95});
    field("latency_target", latency_target,
          "in place of sparsity: time that all blocks together may take, as a "
          "share of what they take before, predicted from measured times; a "
          "controller finds the strength of the pruning; 0: none",
          Range{0, 0.99});
    field("sparsity_start", sparsity_start,
          "share of the run after which masking begins", Range{0, 0.9});
    field("sparsity_end", sparsity_end,
          "share of the run at which it ends; sparsity rises between them as "
          "1 - (1 - t)^3",
          Range{0.01, 1});
    field("mask_interval", mask_interval, "steps between changes of the masks",
          Range{1, 1e6});
    field("regrow", regrow,
          "share of the masked units of a part that others are masked for at "
          "a change, if the gradient wants them back; falls to 0 as a cosine",
          Range{0, 0.5});
    field("importance", importance,
          "of what is masked: obs, what the best fit of the columns that stay "
          "cannot make up for; activation, column norm times rms of the input; "
          "taylor, |w g| of the steps since the last change; fisher, squared "
          "gradients with labels the model draws",
          Choices{"obs", "activation", "taylor", "fisher"});
    field("repair", repair,
          "of what reads the masked units, whenever masks change: none; "
          "least_squares: the columns that stay are fitted to what the part "
          "gave before",
          Choices{"least_squares", "none"});
    field("group_lasso", group_lasso,
          "strength of the lasso that shrinks units until masking ends: "
          "what a unit of usual size loses per learning rate and step",
          Range{0, 1000});
    field("latency_weight", latency_weight,
          "exponent of the measured time per unit that scales masking and "
          "lasso: a part whose next width gains nothing is spared; 0: times "
          "are not measured, and only then, without latency_target, do two "
          "runs agree to the bit",
          Range{0, 8});
    field("align", align,
          "FFN widths are multiples of this; 0: 256, 64, 8 or 1 by width",
          Range{0, 4096});
    field("ffn", ffn, "mask FFN channels");
    field("heads", heads,
          "mask query heads, as many in each group that shares a key and a "
          "value");
    field("kv_groups", kv_groups,
          "mask heads by whole groups that share a key and a value");
  }
};

}  // namespace autoglm
