#include "autoglm/model/model.h"

#include "autoglm/model/footprint.h"
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
  CHECK(widths(model.blocks[0], 8) == BlockWidths{4, 2, 48});
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
