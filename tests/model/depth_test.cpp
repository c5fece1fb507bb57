#include "autoglm/model/depth.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/checkpoint.h"
#include "autoglm/model/footprint.h"
#include "autoglm/model/forward.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using test::tiny_model;

namespace {

// Block 1 loses its attention, block 2 its MLP, block 3 both.
Model with_gaps(const std::string& family) {
  Model model = tiny_model(family, 1, {.layers = 4});
  model.blocks[1] = without_part(model.blocks[1], BlockPart::kAttention);
  model.blocks[2] = without_part(model.blocks[2], BlockPart::kMlp);
  model.blocks[3] = without_part(without_part(model.blocks[3], BlockPart::kMlp),
                                 BlockPart::kAttention);
  update_widths(model);
  return model;
}

Model written_and_read(const Model& model) {
  const test::TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  return read_checkpoint(folder.path());
}

at::Tensor logits(const Model& model, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  return forward(to_compute(model, at::kCPU, at::kFloat), ids);
}

}  // namespace

TEST_CASE("depth: removed parts leave the stream alone, in every family") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = with_gaps(family);
    CHECK_NOTHROW(verify_model(model));
    const BlockWidths nothing;
    CHECK((model.architecture.blocks[3] == nothing));
    at::manual_seed(2);
    const at::Tensor ids = test::random_windows(2, 12);
    // A block without parts is no block.
    const Model shorter = without_blocks(model, {3});
    CHECK(at::equal(logits(model, ids), logits(shorter, ids)));
    // One whose attention puts nothing out, where the stream passes by.
    if (model.architecture.normed_residual ||
        model.blocks[0].after_attention_norm.gain.defined())
      continue;
    Model silent = model;
    Block& block = silent.blocks[1];
    block.attention = silent.blocks[0].attention;
    block.input_norm = silent.blocks[0].input_norm;
    Linear& output = block.attention.output;
    output.weight =
        DenseWeight{at::zeros_like(std::get<DenseWeight>(output.weight).value)};
    if (output.bias.defined()) output.bias = at::zeros_like(output.bias);
    CHECK(at::allclose(logits(silent, ids), logits(model, ids), 1e-5, 1e-5));
  }
}

TEST_CASE("depth: a model with gaps is written, read and counted") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = with_gaps(family);
    const Model again = written_and_read(model);
    CHECK((again.architecture.blocks == model.architecture.blocks));
    CHECK(test::checksum(again) == test::checksum(model));
    CHECK(footprint(again).layers[3].bytes == 0);
    const Json& layers = again.config["per_layer_config"];
    CHECK(layers["1"]["skip"] == Json::array({"attention"}));
    CHECK(layers["2"]["skip"] == Json::array({"mlp"}));
    CHECK(layers["3"]["skip"] == Json::array({"attention", "mlp"}));
    CHECK_FALSE(layers.contains("0"));
  }
}

TEST_CASE("depth: text goes on through a cache that the first block lacks") {
  const at::NoGradGuard no_grad;
  for (const char* family : {"glm", "glm4_moe_lite", "glm_moe_dsa"}) {
    INFO(family);
    Model model = tiny_model(family, 1, {.layers = 3});
    model.blocks[0] = without_part(model.blocks[0], BlockPart::kAttention);
    update_widths(model);
    model = to_compute(model, at::kCPU, at::kFloat);
    at::manual_seed(2);
    const at::Tensor ids = test::random_windows(2, 12);
    KvCache cache;
    ForwardOptions options;
    options.cache = &cache;
    const at::Tensor parts =
        at::cat({forward(model, ids.narrow(1, 0, 5), options),
                 forward(model, ids.narrow(1, 5, 7), options)},
                1);
    CHECK(cache.length() == 12);
    CHECK(at::allclose(parts, forward(model, ids), 1e-4, 1e-4));
  }
}

TEST_CASE("depth: blocks that stay are counted anew, in every family") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = tiny_model(family, 1, {.layers = 4});
    for (const std::vector<std::size_t>& removed :
         {std::vector<std::size_t>{0}, {1, 2}, {0, 2, 3}}) {
      const Model shorter = without_blocks(model, removed);
      CHECK(model.blocks.size() == 4);
      CHECK(shorter.blocks.size() == 4 - removed.size());
      CHECK_NOTHROW(verify_model(shorter));
      const Model again = written_and_read(shorter);
      CHECK((again.architecture.blocks == shorter.architecture.blocks));
      CHECK(test::checksum(again) == test::checksum(shorter));
      CHECK_FALSE(again.config.contains("per_layer_config"));
    }
  }
}

TEST_CASE("depth: what config.json says of each layer follows") {
  Model model = tiny_model("glm4_moe", 1, {.layers = 4});
  CHECK(without_blocks(model, {0}).config["first_k_dense_replace"] == 0);
  CHECK(without_blocks(model, {2}).config["first_k_dense_replace"] == 1);
  CHECK_FALSE(without_blocks(model, {0}).config.contains("mlp_layer_types"));
  // The default is 1, which a file need not say.
  model.config.erase("first_k_dense_replace");
  CHECK(without_blocks(model, {0, 1}).config["first_k_dense_replace"] == 0);
  CHECK_FALSE(
      without_blocks(model, {1}).config.contains("first_k_dense_replace"));

  // Stock loaders of latent attention read a list.
  model = tiny_model("glm4_moe_lite", 1, {.layers = 3});
  CHECK(without_blocks(model, {0}).config["mlp_layer_types"] ==
        Json::array({"sparse", "sparse"}));
  // An entry after the last block is that of a layer that is not run.
  model.config["mlp_layer_types"] = {"dense", "sparse", "sparse", "sparse"};
  CHECK(without_blocks(model, {1}).config["mlp_layer_types"] ==
        Json::array({"dense", "sparse", "sparse"}));
}

TEST_CASE("depth: a layer that shares another's choice of tokens cannot lead") {
  Model model = tiny_model("glm_moe_dsa", 1, {.layers = 4});
  model.config["indexer_types"] = {"full", "shared", "full", "shared"};
  model.architecture = read_architecture(model.config, "c");
  for (const std::size_t layer : {1, 3})
    model.blocks[layer].attention.indexer = {};
  CHECK_NOTHROW(verify_model(model));
  CHECK_FALSE(can_remove_blocks(model.architecture, {0}));
  CHECK(can_remove_blocks(model.architecture, {0, 1}));
  CHECK(can_remove_blocks(model.architecture, {2}));
  CHECK_FALSE(can_remove_blocks(model.architecture, {0, 1, 2, 3}));
  const Model shorter = without_blocks(model, {1, 2});
  CHECK(shorter.config["indexer_types"] == Json::array({"full", "shared"}));
  CHECK((shorter.architecture.indexer.fresh == std::vector<bool>{true, false}));
  CHECK((written_and_read(shorter).architecture.blocks ==
         shorter.architecture.blocks));
}

TEST_CASE("depth: tensors that are copied through keep their layer") {
  Model model = tiny_model("glm4_moe", 1, {.layers = 3});
  const at::Tensor some = at::ones({2});
  // Layer 3 predicts further tokens; layer 10 is no layer 1.
  for (const char* name :
       {"model.layers.0.a", "model.layers.2.rotary_emb.inv_freq",
        "model.layers.3.eh_proj.weight", "model.layers.10.b", "other"})
    model.extra[name] = some;
  std::vector<std::string> names;
  for (const auto& [name, tensor] : without_blocks(model, {0, 1}).extra)
    names.push_back(name);
  CHECK(names == std::vector<std::string>{"model.layers.0.rotary_emb.inv_freq",
                                          "model.layers.1.eh_proj.weight",
                                          "model.layers.8.b", "other"});
}

TEST_CASE("depth: a wrong list of parts to skip is refused") {
  const auto refused = [](const Json& skip) {
    Json config = test::tiny_config("glm");
    config["per_layer_config"]["1"]["skip"] = skip;
    return test::error_of(ErrorKind::kInput,
                          [&] { read_architecture(config, "c"); });
  };
  CHECK(refused({"router"}) ==
        "c: skip of layer 1 names \"router\"; a layer can skip \"attention\" "
        "and \"mlp\"");
  CHECK(refused("mlp") == "c: skip of layer 1 should be a list");
  Json config = test::tiny_config("glm");
  for (const char* layer : {"0", "1"})
    config["per_layer_config"][layer]["skip"] = {"attention"};
  CHECK(test::error_of(ErrorKind::kInput, [&] {
          read_architecture(config, "c");
        }) == "c: no layer has an attention");
}
