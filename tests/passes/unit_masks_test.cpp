// Masks, their gates, the lasso: what training does to units.
#include "passes/distillation/unit_masks.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/rng.h"
#include "autoglm/model/forward.h"
#include "passes/distillation/group_lasso.h"
#include "passes/distillation/mask_repair.h"
#include "passes/distillation/unit_scores.h"
#include "tests/passes/pruning_models.h"
#include "tests/support/relative.h"
#include "tests/support/throws.h"

using namespace autoglm;

namespace {

DistillationOptions options_for(bool heads, bool groups = false) {
  DistillationOptions out;
  out.sparsity = 0.3;
  out.heads = heads;
  out.kv_groups = groups;
  return out;
}

// 6 units in one set or more.
UnitPart six(std::int64_t sets = 1) {
  UnitPart part;
  part.units = 6;
  part.sets = sets;
  return part;
}

at::Tensor bools(const std::vector<int>& values) {
  return at::tensor(values, at::kInt).to(at::kBool);
}

at::Tensor numbers(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}

// Every third unit of each set off.
std::vector<at::Tensor> some_masks(const std::vector<UnitPart>& parts) {
  std::vector<at::Tensor> out;
  for (const UnitPart& part : parts) {
    const std::int64_t size = part.units / part.sets;
    out.push_back(
        (at::arange(part.units, at::kLong).remainder(size).remainder(3) != 1));
  }
  return out;
}

at::Tensor logits(const Model& model) {
  const at::NoGradGuard no_grad;
  at::manual_seed(5);
  return forward(model, test::random_windows(3, 12));
}

}  // namespace

TEST_CASE("next_mask: the least important go, the count is kept") {
  const MaskChange change =
      next_mask(six(), bools({1, 1, 1, 1, 1, 1}), numbers({3, 1, 5, 1, 4, 2}),
                numbers({0, 0, 0, 0, 0, 0}), 4, 0);
  CHECK(at::equal(change.mask, bools({1, 0, 1, 0, 1, 1})));
  CHECK(change.regrown == 0);
}

TEST_CASE("next_mask: what the gradient wants back takes the place of others") {
  // Off: 1 and 3, of which half may come back; 3 wants it more.
  const MaskChange change =
      next_mask(six(), bools({1, 0, 1, 0, 1, 1}), numbers({3, 9, 5, 9, 4, 2}),
                numbers({9, 0.5, 9, 0.7, 9, 9}), 4, 0.5);
  CHECK(at::equal(change.mask, bools({1, 0, 1, 1, 1, 0})));
  CHECK(change.regrown == 1);
}

TEST_CASE("next_mask: nothing comes back that the gradient does not want") {
  const at::Tensor mask = bools({1, 0, 1, 0, 1, 1});
  const MaskChange change = next_mask(six(), mask, numbers({3, 9, 5, 9, 4, 2}),
                                      numbers({0, -1, 0, 0, 0, 0}), 4, 0.5);
  CHECK(at::equal(change.mask, mask));
}

TEST_CASE("next_mask: every set keeps as many, whatever comes back") {
  Rng rng(3);
  for (int round = 0; round < 20; ++round) {
    UnitPart part;
    part.units = 24;
    part.sets = 3;
    at::Tensor mask = at::ones({24}, at::kBool);
    for (const std::int64_t kept : {21, 15, 15, 6, 3}) {
      at::manual_seed(round);
      mask = next_mask(part, mask, at::rand({24}), at::randn({24}), kept, 0.4)
                 .mask;
      CHECK(mask.view({3, 8}).sum(1).eq(kept / 3).all().item<bool>());
    }
  }
}

TEST_CASE("masking_losses: sums of the least important by hand") {
  const std::vector<double> one = masking_losses(
      six(), bools({1, 1, 0, 1, 1, 1}), numbers({3, 1, 9, 1, 4, 2}));
  CHECK(one == std::vector<double>{0, 7, 4, 2, 1, 0, 0});
  // Of two sets one unit each goes at a time.
  const std::vector<double> two = masking_losses(
      six(2), bools({1, 1, 1, 1, 1, 1}), numbers({3, 1, 9, 1, 4, 2}));
  CHECK(two[4] == 2);
  CHECK(two[2] == 7);
}

TEST_CASE("unit masks: a masked model and the cut one are the same") {
  for (const auto& [name, stored] : test::pruning_models())
    for (const int kind : {0, 1, 2}) {
      DistillationOptions options = options_for(kind == 1, kind == 2);
      INFO(name << " " << kind);
      const Model start = to_compute(stored, at::kCPU, at::kFloat);
      const auto parts = find_units(start, options);
      const auto masks = some_masks(parts);
      std::vector<at::Tensor> gates;
      for (const at::Tensor& mask : masks) gates.push_back(mask.to(at::kFloat));
      const Model cut = cut_model(start, parts, masks);
      const at::Tensor wanted = logits(masked_model(start, parts, gates));
      CHECK(test::relative_peak(logits(cut), wanted) <= 1e-5);
      CHECK(test::relative_peak(logits(start), wanted) > 1e-3);
      for (std::size_t p = 0; p < parts.size(); ++p)
        CHECK((cut.architecture.blocks[parts[p].layer] ==
               widths(cut.architecture, cut.blocks[parts[p].layer])));
    }
}

TEST_CASE("unit masks: widths are multiples of align, and one is left") {
  const Model model = test::tiny_model("glm", 1, {.ffn = 50});
  DistillationOptions options = options_for(false);
  options.align = 16;
  CHECK(find_units(model, options)[0].widths ==
        std::vector<std::int64_t>{50, 48, 32, 16});
  options.align = 25;
  CHECK(find_units(model, options)[0].widths ==
        std::vector<std::int64_t>{50, 25});
  options.align = 64;
  CHECK(
      test::error_of(ErrorKind::kConfig, [&] { find_units(model, options); }) ==
      "distillation: no part has a width below the one it has; lower align or "
      "mask heads too");
}

TEST_CASE("unit masks: more than can go is an error that says what can") {
  const Model model = test::tiny_model("glm", 1, {.ffn = 48});
  DistillationOptions options = options_for(false);
  options.align = 16;
  options.sparsity = 0.7;
  CHECK(
      test::error_of(ErrorKind::kConfig, [&] { find_units(model, options); }) ==
      "distillation: sparsity 0.7 leaves nothing of some layers; at their "
      "least widths (16 of 48 in layers.0.mlp) 0.667 has gone");
}

TEST_CASE("unit masks: experts stay, and a model of them alone says so") {
  Model model = test::tiny_model("glm4_moe");
  const auto parts = find_units(model, options_for(false));
  REQUIRE(parts.size() == 1);  // of the dense first block
  CHECK(parts[0].layer == 0);
  model.blocks.erase(model.blocks.begin());
  CHECK(test::error_of(ErrorKind::kConfig,
                       [&] { find_units(model, options_for(false)); }) ==
        "distillation: nothing to prune: the channels of experts stay; "
        "structured_pruning cuts them, heads: true masks heads");
}

TEST_CASE("group lasso: the proximal operator by hand") {
  const at::Tensor factors =
      soft_threshold(at::tensor({2.0, 0.5, 0.25, 0.0}), 0.5);
  CHECK(at::equal(factors, at::tensor({0.75, 0.0, 0.0, 1.0})));
}

TEST_CASE("group lasso: norms are of all rows and the column of a unit") {
  Model model = to_compute(test::tiny_model("chatglm"), at::kCPU, at::kFloat);
  const auto parts = find_units(model, options_for(true));
  for (const UnitPart& part : parts) {
    Block& block = model.blocks[part.layer];
    at::Tensor wanted;
    if (part.part == BlockPart::kMlp) {
      const at::Tensor both = to_dense(block.mlp.gate_up.weight, at::kFloat);
      const at::Tensor down = to_dense(block.mlp.down.weight, at::kFloat);
      wanted = (both.square().sum(1).view({2, part.units}).sum(0) +
                down.square().sum(0))
                   .sqrt();
    } else {
      // Heads 0 .. 3 of 8 rows each, then keys and values, which stay.
      const Linear& all = block.attention.query_key_value;
      const at::Tensor rows =
          to_dense(all.weight, at::kFloat).square().sum(1) + all.bias.square();
      const at::Tensor out =
          to_dense(block.attention.output.weight, at::kFloat).square().sum(0);
      wanted = (rows.narrow(0, 0, 32) + out).view({4, 8}).sum(1).sqrt();
    }
    CHECK(at::allclose(unit_norms(block, part), wanted, 1e-5));
    // Shrinking to three quarters does so to every norm, and to nothing else.
    scale_units(block, part, at::full({part.units}, 0.75));
    CHECK(at::allclose(unit_norms(block, part), 0.75 * wanted, 1e-5));
  }
}

TEST_CASE("unit scores: a unit that adds nothing is worth nothing") {
  for (const char* family : {"glm", "glm4"}) {
    Model model = to_compute(test::tiny_model(family), at::kCPU, at::kFloat);
    const auto parts = find_units(model, options_for(true));
    for (const UnitPart& part : parts) {
      at::Tensor none = at::ones({part.units});
      none[1] = 0;
      const UnitSlices& column = part.slices.back();
      scale_slices(
          std::get<DenseWeight>(
              find_linear(model.blocks[part.layer], column.name)->weight)
              .value,
          column, none);
    }
    std::vector<at::Tensor> gates;
    for (const UnitPart& part : parts)
      gates.push_back(at::ones({part.units}).requires_grad_(true));
    const Model masked = masked_model(model, parts, gates);
    at::manual_seed(2);
    const at::Tensor ids = test::random_windows(4, 14);
    Rng rng(1);
    const auto activation = activation_scores(model, masked, parts, ids);
    const auto fisher = fisher_scores(model, parts, gates, ids, 2, rng);
    std::vector<at::Tensor> all;
    for (const UnitPart& part : parts)
      all.push_back(at::ones({part.units}, at::kBool));
    const auto obs = surgeon_scores(masked, parts, all, ids);
    for (std::size_t p = 0; p < parts.size(); ++p)
      for (const at::Tensor& scores : {activation[p], fisher[p], obs[p]}) {
        CHECK(scores[1].item<double>() == Approx(0).margin(1e-12));
        CHECK(scores[0].item<double>() > 0);
        CHECK(scores[2].item<double>() > 0);
      }
    CHECK_FALSE(gates[0].grad().defined());
  }
}

TEST_CASE("unit scores: activation is the share of the stream by hand") {
  // One block whose stream is what its MLP adds alone: the embedding is 0.
  Model model = to_compute(test::tiny_model("glm", 1, {.layers = 1}), at::kCPU,
                           at::kFloat);
  model.blocks[0].attention.output.weight = DenseWeight{at::zeros({32, 32})};
  const auto parts = find_units(model, options_for(false));
  std::vector<at::Tensor> gates = {at::zeros({48})};
  gates[0][7] = 1;  // only unit 7 adds anything to the stream
  at::manual_seed(2);
  const at::Tensor ids = test::random_windows(2, 9);
  const Model masked = masked_model(model, parts, gates);
  const auto scores = activation_scores(model, masked, parts, ids)[0];
  // With the embedding in the stream the share is below 1; by subtraction:
  AttentionContext context = attention_context(masked, ids);
  const at::Tensor x =
      embed(masked, masked.embedding, ids, context, at::kFloat);
  const at::Tensor after =
      block_forward(masked, masked.blocks[0], 0, x, context);
  const double share =
      ((after - x).square().mean() / after.square().mean()).item<double>();
  CHECK(scores[7].item<double>() == Approx(share).epsilon(1e-4));
}

TEST_CASE("mask repair: the twin of a masked channel takes over its work") {
  for (const char* family : {"glm", "glm4", "chatglm-6b"}) {
    INFO(family);
    Model model = to_compute(test::tiny_model(family), at::kCPU, at::kFloat);
    const auto parts = find_units(model, options_for(false));
    // Channel 5 is made as channel 4 is, in every layer.
    for (const UnitPart& part : parts)
      for (const UnitSlices& slices : part.slices) {
        if (slices.dim == 1) continue;
        Linear& linear = *find_linear(model.blocks[part.layer], slices.name);
        at::Tensor& rows = slices.bias
                               ? linear.bias
                               : std::get<DenseWeight>(linear.weight).value;
        for (std::int64_t row = 0; row < rows.size(0); row += 48)
          rows[row + 5].copy_(rows[row + 4]);
      }
    std::vector<at::Tensor> before, after, gates;
    for (const UnitPart& part : parts) {
      before.push_back(at::ones({part.units}, at::kBool));
      after.push_back(before.back().clone());
      after.back()[5] = false;
      gates.push_back(after.back().to(at::kFloat));
    }
    const at::Tensor wanted = logits(model);
    const auto error = [&] {
      return ((logits(masked_model(model, parts, gates)) - wanted).norm() /
              wanted.norm())
          .item<double>();
    };
    const double without = error();
    at::manual_seed(4);
    const at::Tensor windows = test::random_windows(32, 14);
    repair_readers(model, parts, before, after, windows);
    CHECK(error() < 0.02 * without);
    // Masks that stay change nothing.
    const double sum = test::checksum(model);
    repair_readers(model, parts, after, after, windows);
    CHECK(test::checksum(model) == sum);
  }
}
