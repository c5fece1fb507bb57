#include "autoglm/model/random_model.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/footprint.h"
#include "autoglm/model/forward.h"
#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

namespace {

RandomModelOptions one_layer(int bits) {
  RandomModelOptions options;
  options.layers = 1;
  options.bits = bits;
  return options;
}

}  // namespace

TEST_CASE("random_model: one block of GLM-4-9B has the published numbers") {
  const Model model = random_model("glm-4-9b", one_layer(4));
  REQUIRE(model.blocks.size() == 1);
  // 4096 x (32 + 2 x 2) x 128 of queries, keys and values, 4096 x 4096, and
  // three matrices of 4096 x 13696.
  const std::uint64_t matrices =
      4096ULL * 36 * 128 + 4096ULL * 4096 + 3ULL * 4096 * 13696;
  std::uint64_t count = 0;
  for (const NamedLinear& linear : named_linears(model))
    if (linear.layer == 0) {
      const Weight& weight = weight_of(model, linear.name);
      count += static_cast<std::uint64_t>(rows(weight) * columns(weight));
      CHECK(describe(weight) == "int4 g64 symmetric");
    }
  CHECK(count == matrices);
  // A fortieth of 151552 rows, in multiples of 64.
  CHECK(model.architecture.vocabulary == 3776);
  CHECK(rows(model.embedding) == 3776);
}

TEST_CASE("random_model: gives finite numbers that depend on the seed") {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = at::arange(6, at::kLong).unsqueeze(0);
  RandomModelOptions options = one_layer(3);
  options.head_bits = 8;
  const at::Tensor a = forward(random_model("glm-4-9b", options), ids);
  CHECK(at::isfinite(a).all().item<bool>());
  CHECK(a.std().item<double>() > 0.1);
  CHECK(at::equal(a, forward(random_model("glm-4-9b", options), ids)));
  options.seed = 1;
  CHECK_FALSE(at::equal(a, forward(random_model("glm-4-9b", options), ids)));
}

TEST_CASE(
    "random_model: a layer of GLM-4.5-Air has its experts and little else") {
  const Model model = random_model("glm-4.5-air-layer", one_layer(2));
  REQUIRE(model.blocks.size() == 1);
  CHECK(model.blocks[0].mixture.experts.size() == 128);
  CHECK(model.architecture.vocabulary == 512);
  // 16 tokens: experts that none of them chose, (15/16)^16, are not read.
  const auto experts = static_cast<double>(footprint(model).experts.bytes);
  const double one = static_cast<double>(bytes_read(model, 1));
  CHECK(bytes_read(model, 1) == footprint(model).bytes_per_token);
  CHECK(static_cast<double>(bytes_read(model, 16)) - one ==
        Approx(experts * (15. / 16) * (1 - std::pow(15. / 16, 15)))
            .epsilon(1e-6));
}

TEST_CASE("random_model: GLM-Edge-1.5B counts as published, its head is tied") {
  RandomModelOptions options = one_layer(16);
  const std::uint64_t one =
      footprint(random_model("glm-edge-1.5b", options)).total().parameters;
  options.layers = 2;
  const std::uint64_t two =
      footprint(random_model("glm-edge-1.5b", options)).total().parameters;
  // 1,472,055,296: 28 blocks of 48,238,592, the table, the last norm.
  CHECK(two - one == 48'238'592 + 2048 * std::uint64_t{64 * 33});
  CHECK(28 * std::uint64_t{48'238'592} + 2048 * std::uint64_t{59264 + 1} ==
        1'472'055'296);
}

TEST_CASE("random_model: what is not possible is said") {
  CHECK(error_of(ErrorKind::kConfig, [] { random_model("glm-4-8b", {}); }) ==
        "no shape 'glm-4-8b'; there are glm-4-9b, glm-10b, "
        "glm-edge-1.5b, glm-4.5-air, glm-4.5-air-layer");
  RandomModelOptions options = one_layer(4);
  options.group_size = 96;
  CHECK(error_of(ErrorKind::kConfig, [&] {
          random_model("glm-10b", options);
        }) == "groups of 96 do not divide 4096 columns");
  options.layers = 41;
  CHECK(error_of(ErrorKind::kConfig, [&] {
          random_model("glm-4-9b", options);
        }) == "41 layers: glm-4-9b has 1 to 40");
}
