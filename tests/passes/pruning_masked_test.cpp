// Cutting is lossless: a dense model whose heads and channels are masked with
// zeros gives the logits of the model that lost them. Whatever a pruned model
// loses, it loses by the choice, not by the cut.
#include "autoglm/core/log.h"
#include "autoglm/model/forward.h"
#include "passes/pruning/coupled_rows.h"
#include "tests/passes/pass_runs.h"
#include "tests/passes/pruning_models.h"
#include "tests/support/catch.h"
#include "tests/support/relative.h"

using namespace autoglm;

namespace {

void mask(Linear& linear, std::int64_t dim, const at::Tensor& slices) {
  linear.weight = DenseWeight{
      std::get<DenseWeight>(linear.weight).value.index_fill(dim, slices, 0)};
}

// Of four heads in two groups, or on their own, the first and the last.
void mask_heads(const Architecture& a, Block& block) {
  mask(block.attention.output, 1,
       head_columns(a, at::tensor({0, 3}, at::kLong)));
}

// Channels at odd or even places.
void mask_channels(Mlp& mlp, std::size_t first) {
  if (!mlp.down.present()) return;
  const std::int64_t ffn = columns(mlp.down.weight);
  const at::Tensor masked =
      at::arange(static_cast<std::int64_t>(first % 2), ffn, 2, at::kLong);
  mask(mlp.down, 1, masked);
  // Rows too: what makes a channel nobody reads is part of it, and experts
  // that no token is sent to are judged by their weights alone.
  if (mlp.gate_up.present())
    mask(mlp.gate_up, 0, at::cat({masked, masked + ffn}));
  for (Linear* inner : {&mlp.gate, &mlp.up})
    if (inner->present()) mask(*inner, 0, masked);
}

Model masked_model(Model model, bool heads, bool channels) {
  for (Block& block : model.blocks) {
    if (heads) mask_heads(model.architecture, block);
    if (!channels) continue;
    mask_channels(block.mlp, 0);
    mask_channels(block.mixture.shared, 1);
    for (std::size_t e = 0; e < block.mixture.experts.size(); ++e)
      mask_channels(block.mixture.experts[e], e);
  }
  return model;
}

at::Tensor logits(const Model& model) {
  at::manual_seed(5);
  return forward(model, test::random_windows(3, 12));
}

}  // namespace

TEST_CASE("structured_pruning: a masked model and the cut one are the same") {
  set_log_level(LogLevel::kOff);
  for (const auto& [name, stored] : test::pruning_models()) {
    const Model start = to_compute(stored, at::kCPU, at::kFloat);
    const BlockWidths& from = start.architecture.blocks[0];
    // All four heads on one key: half of them is another choice.
    const bool halves = from.kv_heads == from.query_heads || from.kv_heads == 2;
    for (const bool heads : {true, false})
      for (const bool channels : {true, false}) {
        if ((heads && !halves) || !(heads || channels)) continue;
        INFO(name << (heads ? ", heads" : "") << (channels ? ", ffn" : ""));
        const Model masked = masked_model(start, heads, channels);
        const Model cut =
            test::run_pass(
                "structured_pruning",
                fmt::format("{{sparsity_ratio: 0.5, repair: none, heads: {}, "
                            "ffn: {}}}",
                            heads, channels),
                masked)
                .model;
        const BlockWidths& to = cut.architecture.blocks[0];
        CHECK(to.query_heads == from.query_heads / (heads ? 2 : 1));
        CHECK(to.ffn == from.ffn / (channels ? 2 : 1));
        const at::Tensor wanted = logits(masked), got = logits(cut);
        CHECK(test::relative_peak(got, wanted) <= 1e-5);
        // The masks are no trifle.
        CHECK(test::relative_peak(logits(start), wanted) > 1e-2);
      }
  }
}
