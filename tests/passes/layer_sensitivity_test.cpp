#include "autoglm/passes/layer_sensitivity.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/block_parts.h"
#include "autoglm/model/depth.h"
#include "autoglm/model/forward.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::tiny_model;

namespace {

constexpr std::int64_t kPrefix = 2;

at::Tensor windows() {
  at::manual_seed(9);
  return test::random_windows(11, 20);
}

SensitivityRecord measured(const Model& model, double threshold = 0.05) {
  SensitivityRecord record;
  record.threshold = threshold;
  measure_layers(model, windows(), kPrefix, record);
  return record;
}

at::Tensor log_probabilities(const Model& model) {
  const at::Tensor ids = windows();
  return at::log_softmax(forward(model, ids)
                             .slice(1, kPrefix - 1, ids.size(1) - 1)
                             .to(at::kDouble),
                         -1);
}

double divergence(const Model& original, Model changed, std::size_t layer,
                  const Block& block) {
  changed.blocks[layer] = block;
  const at::NoGradGuard no_grad;
  const at::Tensor q = log_probabilities(original);
  return (q.exp() * (q - log_probabilities(changed)))
      .sum(-1)
      .mean()
      .item<double>();
}

at::Tensor mean_loss(const Model& model) {
  const at::Tensor labels = windows().slice(1, kPrefix).unsqueeze(-1);
  return -log_probabilities(model).gather(-1, labels).mean();
}

}  // namespace

TEST_CASE("layer sensitivity: |w g| is that of autograd through all") {
  for (const char* family : {"glm4", "glm4_moe", "glm-2021"}) {
    INFO(family);
    const Model model = tiny_model(family);
    const SensitivityRecord record = measured(model);
    for (std::size_t i = 0; i < model.blocks.size(); ++i)
      for (const PartSensitivity& part : record.blocks[i].parts) {
        INFO(i << " " << part.part);
        Model copy = model;
        std::vector<at::Tensor> leaves;
        visit_block(
            copy.blocks[i],
            [&](const std::string& name, Linear& linear) {
              if (!name.starts_with(part.part)) return;
              leaves.push_back(to_dense(linear.weight, at::kFloat)
                                   .clone()
                                   .requires_grad_(true));
              linear.weight = DenseWeight{leaves.back()};
            },
            [](const std::string&, const at::Tensor&) {});
        const at::Tensor loss = mean_loss(copy);
        loss.backward();
        CHECK(record.loss == Approx(loss.item<double>()).epsilon(1e-4));
        double sum = 0, count = 0;
        for (const at::Tensor& leaf : leaves) {
          count += static_cast<double>(leaf.numel());
          if (leaf.grad().defined())
            sum += (leaf * leaf.grad()).abs().sum().item<double>();
        }
        CHECK(part.parameters == static_cast<std::uint64_t>(count));
        CHECK(part.taylor == Approx(sum / count).epsilon(1e-3));
      }
  }
}

TEST_CASE("layer sensitivity: divergences are those of whole passes") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = tiny_model(family);
    const SensitivityRecord record = measured(model);
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      const Block& block = model.blocks[i];
      const BlockSensitivity& found = record.blocks[i];
      const auto expected = [&](const Block& changed) {
        return Approx(divergence(model, model, i, changed)).epsilon(1e-3);
      };
      CHECK(found.removed == expected({}));
      REQUIRE(found.parts.size() == 2);
      CHECK(found.parts[0].removed ==
            expected(without_part(block, BlockPart::kAttention)));
      CHECK(found.parts[1].removed ==
            expected(without_part(block, BlockPart::kMlp)));
      for (const PartSensitivity& part : found.parts) {
        CHECK(part.influence > 0);
        CHECK(part.cut.value() > 0);
        CHECK(part.four_bits.value() > 0);
      }
    }
  }
}

TEST_CASE("layer sensitivity: the cut takes an eighth, or a head per group") {
  const auto parts = [](const test::TinySize& size) {
    return measured(tiny_model("glm", 1, size)).blocks[0].parts;
  };
  const auto grouped = parts({});
  CHECK(grouped[0].cut_from == 4);
  CHECK(grouped[0].cut_to == 2);  // two groups
  CHECK(grouped[1].cut_from == 48);
  CHECK(grouped[1].cut_to == 42);
  CHECK(parts({.kv_heads = 4})[0].cut_to == 3);
  // One head cannot be cut.
  const auto one = parts({.heads = 1, .kv_heads = 1, .head_size = 32});
  CHECK_FALSE(one[0].cut);
  CHECK(one[1].cut);
}

TEST_CASE("layer sensitivity: gaps have no parts, quantized ones no cut") {
  Model model = tiny_model("glm", 1, {.layers = 3});
  model.blocks[1] = without_part(model.blocks[1], BlockPart::kMlp);
  model.blocks[2] = Block();
  update_widths(model);
  const SensitivityRecord record = measured(model);
  REQUIRE(record.blocks[1].parts.size() == 1);
  CHECK(record.blocks[1].parts[0].part == "attention");
  CHECK(record.blocks[2].parts.empty());
  CHECK(record.blocks[2].removed == 0);

  const Model quantized =
      test::run_pass("quantization", "{method: rtn}", tiny_model()).model;
  for (const PartSensitivity& part : measured(quantized).blocks[0].parts) {
    CHECK_FALSE(part.cut);
    CHECK_FALSE(part.four_bits);
    CHECK(part.removed > 0);
    CHECK(part.taylor > 0);
  }
}

TEST_CASE("layer sensitivity: trends and marks by hand") {
  SensitivityRecord record;
  record.threshold = 0.5;
  const std::vector<double> removed = {1, 0.25, 3};
  for (std::size_t i = 0; i < 3; ++i) {
    BlockSensitivity block;
    block.layer = i;
    block.removed = removed[i];
    PartSensitivity mlp;
    mlp.part = "mlp";
    mlp.removed = 2 * removed[i];
    if (i != 1) block.parts.push_back(mlp);
    record.blocks.push_back(block);
  }
  compare_neighbours(record);
  CHECK(record.blocks[0].trend == 0.75);
  CHECK(record.blocks[1].trend == -1.75);
  CHECK(record.blocks[2].trend == 2.75);
  CHECK_FALSE(record.blocks[0].redundant);
  CHECK(record.blocks[1].redundant);
  // Beside this part stands none.
  CHECK(record.blocks[0].parts[0].trend == 0);
  const Json json = to_json(record);
  CHECK(json["layers"][1]["redundant"] == true);
  CHECK(json["layers"][0]["parts"][0]["kl_removed"] == 2);
  CHECK_FALSE(json["layers"][0]["parts"][0].contains("kl_cut"));
}

TEST_CASE("layer sensitivity: what is not finite is named") {
  Model model = tiny_model();
  at::Tensor query =
      std::get<DenseWeight>(model.blocks[1].attention.query.weight)
          .value.clone();
  query[0][0] = std::numeric_limits<float>::quiet_NaN();
  model.blocks[1].attention.query.weight = DenseWeight{query};
  CHECK(test::error_of(ErrorKind::kNumeric, [&] {
          measured(model);
        }).find("layers.1.") == 0);
}
