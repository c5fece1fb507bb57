// Models through the kernels of a real GPU; tests/model/device_model_test.cpp
// does the same on an emulated one.
#include <ATen/core/grad_mode.h>

#include "autoglm/model/decoder.h"
#include "autoglm/model/device_kernels.h"
#include "autoglm/model/generate.h"
#include "tests/eval/gpu_or_skip.h"
#include "tests/support/catch.h"
#include "tests/support/packed_model.h"
#include "tests/support/relative.h"

using namespace autoglm;
using test::kernels_or_skip;
using test::relative;

namespace {

Model packed(const std::string& family, int bits) {
  test::TinySize size;
  size.hidden = 256;
  size.heads = 4;
  size.head_size = 128;
  size.ffn = 512;
  return test::packed_model(test::tiny_model(family, 1, size), bits, 128);
}

// Prompt and single steps.
at::Tensor logits_of(const Model& model, const at::Tensor& ids,
                     at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  KvCache cache;
  ForwardOptions options;
  options.dtype = dtype;
  options.cache = &cache;
  std::vector<at::Tensor> out = {forward(model, ids.narrow(1, 0, 40), options)};
  for (std::int64_t t = 40; t < ids.size(1); ++t)
    out.push_back(forward(model, ids.narrow(1, t, 1), options));
  return at::cat(out, 1);
}

// Kernels that record nothing, for as long as it lives.
class WithoutRecording {
 public:
  WithoutRecording() : all_(device_kernels_for(at::kCUDA)), own_(*all_) {
    own_.capture = nullptr;
    set_device_kernels(at::kCUDA, &own_);
  }
  ~WithoutRecording() { set_device_kernels(at::kCUDA, all_); }
  WithoutRecording(const WithoutRecording&) = delete;
  WithoutRecording& operator=(const WithoutRecording&) = delete;

 private:
  const DeviceKernels* all_;
  DeviceKernels own_;
};

}  // namespace

TEST_CASE("device kernels: a GPU says what the CPU says", "[gpu]") {
  if (!kernels_or_skip()) return;
  for (const char* family : {"glm", "glm4", "glm4_moe"})
    for (const int bits : {3, 4, 8}) {
      INFO(family << ", " << bits << " bits");
      const Model model = packed(family, bits);
      const at::Tensor ids = test::random_windows(2, 44);
      const at::Tensor expected =
          logits_of(to_compute(model, at::kCPU, at::kFloat), ids, at::kFloat);
      const auto on_gpu = [&](at::ScalarType dtype) {
        return logits_of(to_compute(model, at::kCUDA, dtype), ids.to(at::kCUDA),
                         dtype)
            .to(at::kCPU);
      };
      CHECK(relative(on_gpu(at::kFloat), expected) < 1e-3);
      // bf16 may send a token to another expert.
      if (std::string(family) != "glm4_moe")
        CHECK(relative(on_gpu(at::kBFloat16), expected) < 0.05);
    }
}

TEST_CASE("apply_linear: rounded activations on a GPU", "[gpu]") {
  if (!kernels_or_skip()) return;
  const at::Tensor dense = at::randn({48, 96});
  const at::Tensor step = at::full({1}, 0.03f);
  const Weight int8 = test::packed(dense, 8, 96);
  const Weight float8 = round_float8(dense, at::kFloat);
  for (const Weight& weight :
       {with_activations(int8), with_activations(int8, step),
        with_activations(float8), with_activations(float8, step)})
    for (const std::int64_t count : {1, 20, 40}) {
      INFO(describe(weight) << ", " << count << " rows");
      const at::Tensor x = at::randn({count, 96});
      const at::Tensor expected = apply_linear(x, weight, {});
      const Weight own = to_device(weight, at::kCUDA);
      CHECK(relative(apply_linear(x.to(at::kCUDA), own, {}).to(at::kCPU),
                     expected) < 1e-4);
      const std::string name = linear_kernel(own, count);
      if (count == 40 && std::holds_alternative<QuantizedWeight>(weight))
        CHECK(name == "int8 gemm");
      if (count < 40) CHECK(name.find("cuda ") == 0);
    }
}

TEST_CASE("decoder: a graph of a GPU writes what its steps write", "[gpu]") {
  if (!kernels_or_skip()) return;
  for (const char* family : {"glm", "glm4", "chatglm", "chatglm-6b"})
    for (const bool padded : {false, true}) {
      INFO(family << ", padded " << padded);
      const Model model = to_compute(packed(family, 4), at::kCUDA, at::kHalf);
      const at::Tensor prompt = test::random_windows(2, 7).to(at::kCUDA);
      GenerateOptions options;
      options.dtype = at::kHalf;
      options.max_tokens = 24;
      options.stop_at_end = false;
      if (padded) {
        options.mask = at::ones_like(prompt);
        options.mask.select(0, 1).narrow(0, 0, 3).zero_();
      }
      const at::Tensor recorded = generate(model, prompt, options);
      const WithoutRecording kernels;
      CHECK(at::equal(generate(model, prompt, options), recorded));
    }
}

TEST_CASE("decoder: a step is recorded on a GPU", "[gpu]") {
  if (!kernels_or_skip()) return;
  const at::NoGradGuard no_grad;
  for (const char* family : {"glm", "glm4", "chatglm", "chatglm-6b"})
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      INFO(family << ", " << c10::toString(dtype));
      const Model model = to_compute(packed(family, 4), at::kCUDA, dtype);
      KvCache cache;
      cache.expected = 20;
      ForwardOptions options;
      options.dtype = dtype;
      options.cache = &cache;
      forward(model, test::random_windows(2, 7).to(at::kCUDA), options);
      CHECK(Decoder(model, cache, 2, dtype).is_recorded());
    }
}
