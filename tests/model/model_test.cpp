#include "autoglm/model/model.h"

#include "autoglm/model/block_parts.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/footprint.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;

TEST_CASE("model: a copy is a snapshot that replacing handles leaves alone") {
  const Model model = test::tiny_model();
  const double before = test::checksum(model);
  Model copy = model;
  weight_of(copy, "layers.0.mlp.down") = DenseWeight{at::zeros({32, 48})};
  CHECK(test::checksum(model) == before);
  CHECK(test::checksum(copy) != before);
}

TEST_CASE("model: widths follow the tensors") {
  Model model = test::tiny_model();
  CHECK(widths(model.architecture, model.blocks[0]) == BlockWidths{4, 2, 48});
  model.blocks[1].mlp.gate_up.weight = DenseWeight{at::zeros({40, 32})};
  model.blocks[1].mlp.down.weight = DenseWeight{at::zeros({32, 20})};
  update_widths(model);
  CHECK(model.architecture.blocks[1].ffn == 20);
  CHECK_FALSE(model.architecture.uniform());
  CHECK_NOTHROW(verify_model(model));
}

TEST_CASE("model: verify names what does not fit and what is not finite") {
  Model model = test::tiny_model();
  model.blocks[1].mlp.down.weight =
      DenseWeight{at::full({32, 48}, NAN, at::kBFloat16)};
  CHECK(error_of(ErrorKind::kNumeric, [&] { verify_model(model); }) ==
        "layers.1.mlp.down contains NaN or infinity");
  model.blocks[1].mlp.down.weight = DenseWeight{at::zeros({32, 47})};
  CHECK(error_of(ErrorKind::kInternal, [&] { verify_model(model); }) ==
        "layers.1.mlp.down is [32, 47], but [32, 48] fits its neighbours");
}

TEST_CASE("footprint: counts parameters and bytes by hand") {
  const Model model = test::tiny_model();
  const Footprint size = footprint(model);
  CHECK(size.embedding.parameters == 64 * 32);
  CHECK(size.head.bytes == 64 * 32 * 2);
  // query and output 32x32, key and value 16x32, biases 32 + 16 + 16
  CHECK(size.attention.parameters == 2 * (2 * 1024 + 2 * 512 + 64));
  CHECK(size.mlp.parameters == 2 * (96 * 32 + 32 * 48));
  CHECK(size.norms.parameters == 5 * 32);
  CHECK(size.layers.size() == 2);
  CHECK(size.bytes_per_token ==
        size.total().bytes - size.embedding.bytes + 32 * 2);
}

TEST_CASE("model: every family verifies, and says what does not fit") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = test::tiny_model(family);
    CHECK_NOTHROW(verify_model(model));
    // Every tensor of a block, spoiled one at a time.
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      const BlockShapes shapes = block_shapes(model.architecture, i);
      for (const auto& matrix : shapes.matrices) {
        Model broken = model;
        find_linear(broken.blocks[i], matrix.name)->weight =
            DenseWeight{at::zeros({matrix.out + 1, matrix.in})};
        CHECK(error_of(ErrorKind::kInternal, [&] {
                verify_model(broken);
              }).find(fmt::format("layers.{}.{} is [", i, matrix.name)) == 0);
      }
      for (const auto& other : shapes.others) {
        Model broken = model;
        *find_tensor(broken.blocks[i], other.name) =
            at::full(other.shape, INFINITY);
        CHECK(error_of(ErrorKind::kNumeric, [&] { verify_model(broken); }) ==
              fmt::format("layers.{}.{} contains NaN or infinity", i,
                          other.name));
        *find_tensor(broken.blocks[i], other.name) = at::Tensor();
        CHECK(error_of(ErrorKind::kInternal, [&] {
                verify_model(broken);
              }).find(other.name + " is missing") != std::string::npos);
      }
    }
  }
}

TEST_CASE("model: dtypes change all but what a choice hangs on") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model half =
        to_compute(to_compute(test::tiny_model(family), at::kCPU, at::kFloat),
                   at::kCPU, at::kBFloat16);
    for (const Block& block : half.blocks)
      visit_block(
          block,
          [&](const std::string& name, const Linear& part) {
            INFO(name);
            CHECK(dtype(part.weight) == at::kBFloat16);
          },
          [&](const std::string& name, const at::Tensor& part) {
            INFO(name);
            CHECK(
                part.scalar_type() ==
                (name.starts_with("mlp.router.") ? at::kFloat : at::kBFloat16));
          });
    CHECK(half.final_norm.gain.scalar_type() == at::kBFloat16);
  }
}

TEST_CASE("footprint: counts a mixture by hand") {
  const Model model = test::tiny_model("glm4_moe");
  const Footprint size = footprint(model);
  // One dense block, then four experts of [24, 32], and a shared one.
  const std::uint64_t expert = 3 * 24 * 32;
  CHECK(size.experts.parameters == 4 * expert);
  CHECK(size.mlp.parameters == 3 * 48 * 32 + expert);
  CHECK(size.router.parameters == 4 * 32 + 4);
  CHECK(size.norms.parameters == 5 * 32 + 2 * 2 * 8);
  CHECK(size.active_parameters == size.total().parameters - 2 * expert);
  CHECK(size.bytes_per_token ==
        size.total().bytes - size.embedding.bytes + 32 * 2 - 2 * expert * 2);
  Size layers;
  for (const Size& layer : size.layers) layers += layer;
  CHECK(layers.parameters + size.embedding.parameters + size.head.parameters +
            32 ==
        size.total().parameters);
}

TEST_CASE("footprint: what is stored is what is counted, in every family") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    Model model = test::tiny_model(family);
    model.extra["side"] = at::zeros({5});
    const test::TemporaryFolder folder;
    CHECK(write_checkpoint(model, folder.path()) ==
          footprint(model).total().bytes);
    CHECK(footprint(model).active_parameters <=
          footprint(model).total().parameters - 5);
  }
}
