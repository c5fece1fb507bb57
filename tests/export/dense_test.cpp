#include "autoglm/export/dense.h"

#include "autoglm/core/file.h"
#include "autoglm/model/checkpoint.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

const std::filesystem::path kSource = AUTOGLM_SOURCE_DIR;

// The example with one matrix in 4 bits and one in fp8.
Model mixed_model() {
  Model model = read_checkpoint(kSource / "examples/glm-books");
  const at::Tensor codes =
      (at::arange(256 * 768, at::kInt) % 16).reshape({256, 768}).to(at::kByte);
  const at::Tensor scales = at::full({256, 12}, 0.0078125, at::kBFloat16);
  weight_of(model, "layers.2.mlp.down") = pack_weight(codes, scales, {}, 4, 64);
  weight_of(model, "layers.1.mlp.down") =
      Float8Weight{codes.to(at::kFloat).to(at::kFloat8_e4m3fn),
                   at::full({256, 1}, 0.0078125, at::kBFloat16)};
  return model;
}

}  // namespace

TEST_CASE("dense export: every weight holds the values it stood for") {
  const Model model = mixed_model();
  const Model dense = dense_model(model, "auto");
  for (const NamedLinear& linear : named_linears(model)) {
    INFO(linear.name);
    const Weight& weight = weight_of(dense, linear.name);
    REQUIRE(std::holds_alternative<DenseWeight>(weight));
    CHECK(dtype(weight) == at::kBFloat16);
    CHECK(at::equal(to_dense(weight, at::kFloat),
                    to_dense(weight_of(model, linear.name), at::kFloat)));
  }
}

TEST_CASE("dense export: read again it has no quantization_config") {
  const TemporaryFolder folder;
  Model model = mixed_model();
  model.architecture.kv_cache_bits = 8;
  write_checkpoint(dense_model(model, "fp32"), folder.path());
  const Model again = read_checkpoint(folder.path());
  CHECK_FALSE(again.config.contains("quantization_config"));
  CHECK_FALSE(again.config.contains("kv_cache_bits"));
  CHECK(again.config["dtype"] == "float32");
  CHECK(again.final_norm.gain.scalar_type() == at::kFloat);
  CHECK(dtype(weight_of(again, "layers.2.mlp.down")) == at::kFloat);
}

TEST_CASE("dense export: a value beyond fp16 is an error, not an infinity") {
  Model model = mixed_model();
  model.final_norm.gain = at::full_like(model.final_norm.gain, 1e6);
  CHECK(error_of(ErrorKind::kNumeric, [&] { dense_model(model, "fp16"); }) ==
        "the final norm has values beyond the range of fp16 (65504); export "
        "as bf16 or fp32");
  CHECK_NOTHROW(dense_model(model, "bf16"));
}

TEST_CASE("dense export: an unknown dtype names the known ones") {
  CHECK(error_of(ErrorKind::kConfig, [] {
          dense_model(mixed_model(), "int3");
        }) == "unknown dtype 'int3'; known: auto, bf16, fp16, fp32");
}
