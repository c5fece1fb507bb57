// Whole models through the kernels of a device, here the emulated one.
#include <ATen/core/grad_mode.h>

#include "autoglm/model/forward.h"
#include "autoglm/model/generate.h"
#include "tests/support/catch.h"
#include "tests/support/emulated_kernels.h"
#include "tests/support/packed_model.h"
#include "tests/support/relative.h"

using namespace autoglm;
using test::EmulatedKernels;
using test::relative;

namespace {

// Heads of 64, which the attention kernel takes; the matrices in 4 bits.
Model small_model(const std::string& family, at::ScalarType dtype,
                  int cache_bits = 0) {
  test::TinySize size;
  size.hidden = 128;
  size.heads = 2;
  size.kv_heads = 1;
  size.head_size = 64;
  size.ffn = 64;
  Model model = test::packed_model(test::tiny_model(family, 1, size), 4, 32);
  model.architecture.kv_cache_bits = cache_bits;
  return to_compute(std::move(model), at::kCPU, dtype);
}

at::Tensor logits_of_steps(const Model& model, const at::Tensor& ids,
                           at::ScalarType dtype) {
  KvCache cache;
  ForwardOptions options;
  options.dtype = dtype;
  options.cache = &cache;
  std::vector<at::Tensor> out = {forward(model, ids.narrow(1, 0, 5), options)};
  for (std::int64_t t = 5; t < ids.size(1); ++t)
    out.push_back(forward(model, ids.narrow(1, t, 1), options));
  return at::cat(out, 1);
}

}  // namespace

TEST_CASE("device kernels: a packed model says what it says without them") {
  const at::NoGradGuard no_grad;
  for (const char* family : {"glm", "glm4", "glm4_moe", "chatglm"})
    for (const auto& [dtype, tolerance] :
         {std::pair(at::kFloat, 1e-5), std::pair(at::kBFloat16, 0.03)}) {
      INFO(family << ", " << c10::toString(dtype));
      const Model model = small_model(family, dtype);
      const at::Tensor ids = test::random_windows(2, 8);
      const at::Tensor exact = logits_of_steps(model, ids, dtype);
      {
        const EmulatedKernels kernels;
        const at::Tensor found = logits_of_steps(model, ids, dtype);
        CHECK(relative(found, exact) < tolerance);
        const std::int64_t layers = 2, steps = 4;
        CHECK(EmulatedKernels::take("packed") > layers * steps * 4);
        // Two sums in a block; the first norm has none, the last has the last.
        CHECK(EmulatedKernels::take("norm of sum") == 2 * layers * steps);
        CHECK(EmulatedKernels::take("silu") >= layers * steps);
        CHECK(EmulatedKernels::take("rotate") == 2 * layers * steps);
        CHECK(EmulatedKernels::take("attention") ==
              (dtype == at::kFloat ? 0 : layers * (steps - 1)));
        CHECK_FALSE(at::equal(found, exact));
      }
      CHECK(at::equal(logits_of_steps(model, ids, dtype), exact));
    }
}

TEST_CASE("device kernels: a coded cache is read as it is kept") {
  const at::NoGradGuard no_grad;
  // A number that lies between two codes may come out as either.
  for (const auto& [bits, tolerance] :
       {std::pair(4, 0.1), std::pair(8, 0.01)}) {
    const Model model = small_model("glm4", at::kHalf, bits);
    const at::Tensor ids = test::random_windows(2, 8);
    const at::Tensor exact = logits_of_steps(model, ids, at::kHalf);
    const EmulatedKernels kernels;
    CHECK(relative(logits_of_steps(model, ids, at::kHalf), exact) < tolerance);
    CHECK(EmulatedKernels::take("attention") == 2 * 3);
  }
}

TEST_CASE("device kernels: generation goes on as without them") {
  for (const char* family : {"glm", "glm4"}) {
    INFO(family);
    const Model model = small_model(family, at::kFloat);
    GenerateOptions options;
    options.max_tokens = 8;
    options.stop_at_end = false;
    options.mask = at::ones({2, 4}, at::kLong);
    options.mask[1][0] = 0;  // left padding
    const at::Tensor prompt = test::random_windows(2, 4);
    const at::Tensor expected = generate(model, prompt, options);
    const EmulatedKernels kernels;
    CHECK(at::equal(generate(model, prompt, options), expected));
    CHECK(EmulatedKernels::take("packed") > 0);
  }
}

TEST_CASE("device kernels: gradients flow past them") {
  const Model model = small_model("glm4", at::kFloat);
  const at::Tensor x = at::randn({1, 5, 128}).requires_grad_(true);
  const auto slope = [&] {
    x.mutable_grad() = at::Tensor();
    AttentionContext context =
        attention_context(model, at::zeros({1, 5}, at::kLong));
    block_forward(model, model.blocks[0], 0, x, context).sum().backward();
    return x.grad().clone();
  };
  const at::Tensor expected = slope();
  const EmulatedKernels kernels;
  CHECK(relative(slope(), expected) < 1e-5);
  CHECK(EmulatedKernels::take("packed") == 0);
  CHECK(EmulatedKernels::take("norm") == 0);
}
