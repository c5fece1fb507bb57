#include "autoglm/model/walk.h"

#include <ATen/core/grad_mode.h>

#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

TEST_CASE("walk: two streams, one of the original and one of the changed") {
  const at::NoGradGuard no_grad;
  const Model start = test::tiny_model();
  Model model = start;
  const at::Tensor ids = test::random_windows(5, 7);
  std::vector<bool> same;
  const auto [original, compressed] =
      walk_blocks(model, model.embedding, ids, 2, [&](const BlockVisit& visit) {
        same.push_back(
            at::equal(visit.original_input[0], visit.compressed_input[0]));
        Block block = visit.original;
        block.mlp.down.weight = DenseWeight{
            std::get<DenseWeight>(block.mlp.down.weight).value * 0.5};
        return block;
      });
  CHECK(same == std::vector<bool>{true, false});
  CHECK(original.size() == 3);
  CHECK(at::allclose(head_forward(start, at::cat(original)),
                     forward(start, ids), 1e-5, 1e-5));
  CHECK(at::allclose(head_forward(model, at::cat(compressed)),
                     forward(model, ids), 1e-5, 1e-5));
}

TEST_CASE("walk: blocks returned unchanged change nothing") {
  Model model = test::tiny_model();
  const double before = test::checksum(model);
  const auto [original, compressed] =
      walk_blocks(model, model.embedding, test::random_windows(2, 4), 8,
                  [](const BlockVisit& visit) { return visit.original; });
  CHECK(test::checksum(model) == before);
  CHECK(original[0].is_same(compressed[0]));
}

TEST_CASE("walk: both streams are those of the two models, in every family") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    Model start = test::tiny_model(family);
    if (start.architecture.two_dimensional())
      start.architecture.blank = {{{61}}, 62};
    Model model = start;
    at::Tensor ids = test::random_windows(5, 12);  // more than the indexer's 6
    ids.select(1, 3).fill_(61);
    ids.select(1, 4).fill_(62);
    const auto [original, compressed] = walk_blocks(
        model, model.embedding, ids, 2, [&](const BlockVisit& visit) {
          Block block = visit.original;
          Weight& output = block.attention.output.weight;
          output = DenseWeight{std::get<DenseWeight>(output).value.flip(0)};
          return block;
        });
    CHECK(at::allclose(head_forward(start, at::cat(original)),
                       forward(start, ids), 1e-4, 1e-4));
    CHECK(at::allclose(head_forward(model, at::cat(compressed)),
                       forward(model, ids), 1e-4, 1e-4));
    CHECK_FALSE(
        at::allclose(at::cat(original), at::cat(compressed), 1e-2, 1e-2));
  }
}

TEST_CASE("walk: a selection of tokens outlives the blocks before a change") {
  const at::NoGradGuard no_grad;
  // The second layer sees what the first one's indexer picked.
  Json config = test::tiny_config("glm_moe_dsa");
  config["indexer_types"] = {"full", "shared"};
  Model start = test::tiny_model("glm_moe_dsa");
  start.architecture = read_architecture(config, "c");
  start.blocks[1].attention.indexer = {};
  Model model = start;
  const at::Tensor ids = test::random_windows(3, 12);
  const auto [original, compressed] =
      walk_blocks(model, model.embedding, ids, 2, [&](const BlockVisit& visit) {
        Block block = visit.original;
        if (visit.layer == 0) return block;
        Weight& output = block.attention.output.weight;
        output = DenseWeight{std::get<DenseWeight>(output).value.flip(0)};
        return block;
      });
  CHECK(at::allclose(head_forward(start, at::cat(original)),
                     forward(start, ids), 1e-4, 1e-4));
  CHECK(at::allclose(head_forward(model, at::cat(compressed)),
                     forward(model, ids), 1e-4, 1e-4));
}
