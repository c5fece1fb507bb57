// Recorded steps against the steps of forward(), on an emulated device that
// does recorded work again by calling it again.
#include "autoglm/model/decoder.h"

#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include "autoglm/model/generate.h"
#include "tests/support/catch.h"
#include "tests/support/emulated_kernels.h"
#include "tests/support/packed_model.h"
#include "tests/support/relative.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::EmulatedKernels;
using test::Recording;
using test::relative;

namespace {

constexpr std::int64_t kPrompt = 5, kSteps = 6;

Model compute_model(const std::string& family,
                    at::ScalarType dtype = at::kFloat) {
  return to_compute(test::tiny_model(family), at::kCPU, dtype);
}

// Heads of 64, for which there is an attention kernel.
Model packed_bf16(int cache_bits) {
  test::TinySize size;
  size.hidden = size.ffn = 64;
  size.head_size = 64;
  Model model = test::packed_model(test::tiny_model("glm4", 1, size), 4, 32);
  model.architecture.kv_cache_bits = cache_bits;
  return to_compute(std::move(model), at::kCPU, at::kBFloat16);
}

// A cache after the prompt.
KvCache filled(const Model& model, const at::Tensor& prompt,
               at::ScalarType dtype, const at::Tensor& mask = {}) {
  const at::NoGradGuard no_grad;
  KvCache cache;
  cache.expected = prompt.size(1) + kSteps;
  ForwardOptions options;
  options.dtype = dtype;
  options.mask = mask;
  options.cache = &cache;
  forward(model, prompt, options);
  return cache;
}

// Logits [B, steps, V] after each column of `ids`.
at::Tensor decode(const Model& model, const KvCache& cache,
                  const at::Tensor& ids, at::ScalarType dtype) {
  Decoder decoder(model, cache, ids.size(0), dtype);
  std::vector<at::Tensor> out;
  for (std::int64_t t = 0; t < ids.size(1); ++t)
    out.push_back(decoder.step(ids.narrow(1, t, 1)).clone());
  return at::stack(out, 1);
}

std::string reason(const Model& model, std::int64_t room = kSteps) {
  KvCache cache = filled(model, test::random_windows(1, kPrompt), at::kFloat);
  cache.expected = cache.length() + room;
  return why_not_recorded(model, cache, at::kCPU);
}

// Names of the operations that `body` starts, nested ones too.
std::vector<std::string> operations(const std::function<void()>& body) {
  static std::vector<std::string> names;
  names.clear();
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& function)
                                     -> std::unique_ptr<at::ObserverContext> {
        names.emplace_back(function.name());
        return nullptr;
      }));
  body();
  at::removeCallback(handle);
  return names;
}

}  // namespace

TEST_CASE("decoder: a recorded step gives what forward() gives") {
  for (const char* family :
       {"glm", "glm4", "chatglm", "chatglm-6b", "glm-2021"})
    for (const bool padded : {false, true}) {
      INFO(family << ", padded " << padded);
      const Model model = compute_model(family);
      const at::Tensor prompt = test::random_windows(2, kPrompt);
      const at::Tensor ids = test::random_windows(2, kSteps);
      at::Tensor mask;
      if (padded) {
        mask = at::ones({2, kPrompt}, at::kLong);
        mask.select(0, 1).narrow(0, 0, 2).zero_();
      }
      const KvCache cache = filled(model, prompt, at::kFloat, mask);
      at::Tensor expected;
      {
        const EmulatedKernels kernels;
        expected = decode(model, cache, ids, at::kFloat);
        CHECK(EmulatedKernels::take("capture") == 0);
      }
      const EmulatedKernels kernels(Recording::kWorks);
      CHECK(relative(decode(model, cache, ids, at::kFloat), expected) < 1e-5);
      CHECK(EmulatedKernels::take("capture") == 1);
      CHECK(EmulatedKernels::take("replay") == kSteps);
    }
}

TEST_CASE("decoder: the attention kernel reads the length on the device") {
  for (const int bits : {0, 8}) {
    const Model model = packed_bf16(bits);
    const at::Tensor prompt = test::random_windows(2, kPrompt);
    const at::Tensor ids = test::random_windows(2, kSteps);
    const KvCache cache = filled(model, prompt, at::kBFloat16);
    at::Tensor expected;
    {
      const EmulatedKernels kernels;
      expected = decode(model, cache, ids, at::kBFloat16);
    }
    const EmulatedKernels kernels(Recording::kWorks);
    const at::Tensor found = decode(model, cache, ids, at::kBFloat16);
    CHECK(relative(found, expected) < 0.01);
    // The warm-up is a step too.
    CHECK(EmulatedKernels::take("attention") == 2 * (kSteps + 1));
  }
}

TEST_CASE("decoder: a text in a blank keeps the blank's place") {
  Model model = compute_model("chatglm-6b");
  BlankIds& blank = model.architecture.blank;
  blank.start = 62;
  blank.masks = {{61}};
  REQUIRE(blank.known());
  at::Tensor prompt = test::random_windows(3, kPrompt, 60);
  prompt[0][2] = 61;
  prompt[0][4] = prompt[1][4] = 62;  // the last row has no start
  const at::Tensor ids = test::random_windows(3, kSteps, 60);
  const KvCache cache = filled(model, prompt, at::kFloat);
  const at::Tensor expected = decode(model, cache, ids, at::kFloat);
  const EmulatedKernels kernels(Recording::kWorks);
  CHECK(relative(decode(model, cache, ids, at::kFloat), expected) < 1e-5);
  CHECK(EmulatedKernels::take("replay") == kSteps);
}

TEST_CASE("decoder: starts without a prompt") {
  const Model model = compute_model("glm4");
  KvCache cache;
  cache.expected = kSteps;
  const at::Tensor ids = test::random_windows(3, kSteps);
  const at::Tensor expected = decode(model, cache, ids, at::kFloat);
  const EmulatedKernels kernels(Recording::kWorks);
  CHECK(relative(decode(model, cache, ids, at::kFloat), expected) < 1e-5);
  CHECK(EmulatedKernels::take("replay") == kSteps);
}

TEST_CASE("decoder: a step is the same work, and asks the host nothing") {
  const Model model = packed_bf16(8);
  const EmulatedKernels kernels(Recording::kWorks);
  Decoder decoder(
      model, filled(model, test::random_windows(2, kPrompt), at::kBFloat16), 2,
      at::kBFloat16);
  REQUIRE(decoder.is_recorded());
  const auto step = [&] {
    return operations([&] { decoder.step(at::ones({2, 1}, at::kLong)); });
  };
  const std::vector<std::string> first = step();
  CHECK(first.size() > 50);
  CHECK(step() == first);
  for (const char* asks :
       {"aten::item", "aten::_local_scalar_dense", "aten::nonzero",
        "aten::is_nonzero", "aten::masked_select"}) {
    INFO(asks);
    CHECK(std::count(first.begin(), first.end(), asks) == 0);
  }
}

TEST_CASE("decoder: there is room for as many steps as were expected") {
  const Model model = compute_model("glm4");
  const EmulatedKernels kernels(Recording::kWorks);
  Decoder decoder(model,
                  filled(model, test::random_windows(1, kPrompt), at::kFloat),
                  1, at::kFloat);
  const at::Tensor id = at::ones({1, 1}, at::kLong);
  for (std::int64_t i = 0; i < kSteps; ++i) decoder.step(id);
  test::error_of(ErrorKind::kInternal, [&] { decoder.step(id); });
}

TEST_CASE("decoder: says why a step is not recorded") {
  CHECK(reason(compute_model("glm4")) == "the device records nothing");
  const EmulatedKernels kernels(Recording::kWorks);
  CHECK(reason(compute_model("glm4")).empty());
  CHECK(reason(compute_model("glm4"), 1) ==
        "there is room for a few tokens only");
  CHECK(reason(compute_model("glm4_moe")) ==
        "the host sends tokens to their experts");
  CHECK(reason(compute_model("glm-2021"), 60 - kPrompt).empty());
  CHECK(reason(compute_model("glm-2021"), 65 - kPrompt) ==
        "the text may pass the end of the learned positions");
  CHECK_FALSE(reason(compute_model("glm_moe_dsa")).empty());
  KvCache empty;
  empty.expected = kSteps;
  CHECK(why_not_recorded(compute_model("chatglm-6b"), empty, at::kCPU) ==
        "positions depend on a prompt that is not there");
}

TEST_CASE("decoder: a device that cannot record after all is no failure") {
  const Model model = compute_model("glm4");
  const at::Tensor ids = test::random_windows(2, kSteps);
  const KvCache cache =
      filled(model, test::random_windows(2, kPrompt), at::kFloat);
  const at::Tensor expected = decode(model, cache, ids, at::kFloat);
  const EmulatedKernels kernels(Recording::kFails);
  const Decoder decoder(model, cache, 2, at::kFloat);
  CHECK_FALSE(decoder.is_recorded());
  CHECK(relative(decode(model, cache, ids, at::kFloat), expected) < 1e-5);
}

TEST_CASE("generate: recorded steps write the text that others write") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = compute_model(family);
    GenerateOptions options;
    options.max_tokens = 10;
    options.stop_at_end = false;
    const at::Tensor prompt = test::random_windows(2, 4);
    const at::Tensor expected = generate(model, prompt, options);
    const EmulatedKernels kernels(Recording::kWorks);
    CHECK(at::equal(generate(model, prompt, options), expected));
    const bool recorded = !model.blocks.back().is_mixture();
    CHECK(EmulatedKernels::take("replay") == (recorded ? 9 : 0));
  }
}
