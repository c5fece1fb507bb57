// Single calls of the kernels of a device, here the emulated one, against
// libtorch on the same tensors.
#include "autoglm/model/device_kernels.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/forward.h"
#include "model/coded_heads.h"
#include "model/cpu_stream.h"
#include "model/dequantize.h"
#include "model/device_stream.h"
#include "tests/support/catch.h"
#include "tests/support/emulated_kernels.h"
#include "tests/support/random_weight.h"
#include "tests/support/relative.h"

using namespace autoglm;
using test::EmulatedKernels;
using test::random_weight;
using test::relative;

namespace {

// What one product differs by: sums in another order, rounded once.
double tolerance(at::ScalarType dtype) {
  return dtype == at::kFloat ? 2e-6 : dtype == at::kHalf ? 6e-4 : 4e-3;
}

at::Tensor product(const at::Tensor& x, const Weight& weight,
                   const at::Tensor& bias) {
  const at::Tensor y =
      at::linear(x.to(at::kDouble), to_dense(weight, at::kDouble));
  return bias.defined() ? y + bias.to(at::kDouble) : y;
}

}  // namespace

TEST_CASE("device_kernels_for: what was set, for that type of device alone") {
  CHECK(device_kernels_for(at::kCPU) == nullptr);
  {
    const EmulatedKernels kernels;
    CHECK(device_kernels_for(at::kCPU) != nullptr);
    CHECK(device_kernels_for(at::kMeta) == nullptr);
    CHECK(device_kernels_for({at::kCUDA, 1}) == nullptr);
  }
  CHECK(device_kernels_for(at::kCPU) == nullptr);
}

TEST_CASE("apply_linear: few rows run through the kernel of the device") {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf})
    for (const int bits : {2, 3, 4, 5, 8})
      for (const bool symmetric : {true, false}) {
        const Weight weight =
            random_weight(bits, 37, 128, bits == 3 ? 128 : 32, symmetric);
        const at::Tensor x = at::randn({2, 3, 128}).to(dtype);
        const at::Tensor bias = at::randn({37}).to(dtype);
        INFO(describe(weight) << ", " << c10::toString(dtype));
        const EmulatedKernels kernels;
        const at::Tensor y = apply_linear(x, weight, bias);
        CHECK(EmulatedKernels::take("packed") == 1);
        CHECK(EmulatedKernels::take_all() == 0);
        CHECK(y.scalar_type() == dtype);
        CHECK(y.sizes() == at::IntArrayRef({2, 3, 37}));
        CHECK(relative(y, product(x, weight, bias)) < tolerance(dtype));
        CHECK(std::string(linear_kernel(weight, 6)) == "cuda packed");
        // One bias per token.
        const at::Tensor each = at::randn({6, 37}).to(dtype);
        CHECK(at::equal(apply_linear(x, weight, each),
                        apply_linear(x, weight, {}) + each.view({2, 3, 37})));
      }
}

TEST_CASE("apply_linear: a view of a wider tensor is read as it lies") {
  const Weight weight = random_weight(4, 16, 64, 32, true);
  const at::Tensor both = at::randn({3, 130}).to(at::kBFloat16);
  const at::Tensor x = both.narrow(1, 1, 64);
  const EmulatedKernels kernels;
  const at::Tensor y = apply_linear(x, weight, {});
  CHECK(EmulatedKernels::take("packed") == 1);
  CHECK(relative(y, product(x, weight, {})) < tolerance(at::kBFloat16));
}

TEST_CASE("apply_linear: e4m3 weights have a kernel of their own") {
  const Weight weight = round_float8(at::randn({24, 64}), at::kBFloat16);
  const at::Tensor x = at::randn({5, 64}).to(at::kBFloat16);
  const EmulatedKernels kernels;
  const at::Tensor y = apply_linear(x, weight, {});
  CHECK(EmulatedKernels::take("float8") == 1);
  CHECK(std::string(linear_kernel(weight, 5)) == "cuda fp8");
  CHECK(relative(y, product(x, weight, {})) < tolerance(at::kBFloat16));
}

TEST_CASE("apply_linear: rounded activations are rounded on the device") {
  const at::Tensor x = at::randn({4, 96}), step = at::full({1}, 0.03f);
  const at::Tensor bias = at::randn({40});
  const Weight int8 = random_weight(8, 40, 96, 96, true, at::kFloat);
  const Weight float8 = round_float8(at::randn({40, 96}), at::kFloat);
  for (const Weight& plain : {int8, float8})
    for (const Weight& weight :
         {with_activations(plain), with_activations(plain, step)}) {
      INFO(describe(weight));
      const at::Tensor expected = apply_linear(x, weight, bias);
      const bool is_int8 = std::holds_alternative<QuantizedWeight>(weight);
      const EmulatedKernels kernels;
      const at::Tensor y = apply_linear(x, weight, bias);
      CHECK(EmulatedKernels::take(is_int8 ? "packed" : "float8") == 1);
      CHECK(EmulatedKernels::take("round") == (is_int8 ? 1 : 0));
      CHECK(relative(y, expected) < 2e-6);
      CHECK(std::string(linear_kernel(weight, 4)) ==
            (is_int8 ? "cuda int8 x int8" : "cuda fp8 x fp8"));
    }
}

TEST_CASE("apply_linear: many rows in 8 bits are rounded on the device") {
  const Weight plain = random_weight(8, 40, 96, 96, true, at::kFloat);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const at::Tensor& step : {at::Tensor(), at::full({1}, 0.03f)}) {
      const Weight weight = with_activations(plain, step);
      const at::Tensor x = at::randn({2, 20, 96}).to(dtype);
      if (linear_kernel(weight, 40) != "int8 gemm") return;  // no VNNI
      const at::Tensor expected = apply_linear(x, weight, {});
      const EmulatedKernels kernels;
      const at::Tensor y = apply_linear(x, weight, {});
      CHECK(EmulatedKernels::take("round") == 1);
      CHECK(EmulatedKernels::take_all() == 0);
      CHECK(y.scalar_type() == dtype);
      CHECK(relative(y, expected) < tolerance(dtype));
      // fp64 has no kernel.
      apply_linear(x.to(at::kDouble), weight, {});
      CHECK(EmulatedKernels::take("round") == 0);
    }
}

TEST_CASE("apply_linear: many rows are dequantized by the device") {
  const Weight packed = random_weight(4, 20, 64, 32, false);
  const Weight float8 = round_float8(at::randn({20, 64}), at::kBFloat16);
  const at::Tensor x = at::randn({40, 64});
  for (const Weight& weight : {packed, float8}) {
    const bool is_packed = std::holds_alternative<QuantizedWeight>(weight);
    const at::Tensor exact = product(x, weight, {});
    const at::Tensor dense = to_dense(weight, at::kBFloat16);
    const EmulatedKernels kernels;
    CHECK(relative(apply_linear(x, weight, {}), exact) < 2e-6);
    CHECK(EmulatedKernels::take(is_packed ? "unpack" : "unpack float8") == 1);
    CHECK(EmulatedKernels::take_all() == 0);
    CHECK(std::string(linear_kernel(weight, 40)) == "dequantize + gemm");
    CHECK(at::equal(to_dense(weight, at::kBFloat16), dense));
    const at::Tensor ids = at::tensor({19, 0, 7, 7}, at::kLong);
    CHECK(at::equal(select_rows(weight, ids, at::kBFloat16),
                    dense.index_select(0, ids)));
  }
}

TEST_CASE("apply_linear: what no kernel takes is left to libtorch") {
  const auto is_left = [](const at::Tensor& x, const Weight& weight) {
    const at::Tensor expected = product(x, weight, {});
    const EmulatedKernels kernels;
    const at::Tensor y = apply_linear(x, weight, {});
    const int products =
        EmulatedKernels::take("packed") + EmulatedKernels::take("float8");
    return products == 0 && relative(y.detach(), expected) < 2e-6;
  };
  const Weight weight = random_weight(4, 16, 96, 32, true);
  const at::Tensor x = at::randn({3, 96});
  CHECK(is_left(x.to(at::kDouble), weight));
  CHECK(is_left(x, random_weight(4, 16, 96, 24, true)));
  CHECK(is_left(x, random_weight(8, 16, 96, 24, true)));
  CHECK(is_left(at::randn({33, 96}), weight));
  CHECK(is_left(at::randn({3, 96}).requires_grad_(true), weight));
  CHECK(is_left(x, DenseWeight{at::randn({8, 96})}));
  CHECK_FALSE(is_left(x, weight));
  CHECK_FALSE(is_left(x, random_weight(8, 16, 96, 48, true)));
  const EmulatedKernels kernels;
  const std::string name = linear_kernel(random_weight(4, 16, 96, 24, true), 1);
  CHECK(name.find("cuda") == std::string::npos);
}

TEST_CASE("apply_linear: a kernel of the device stops no gradient") {
  const Weight weight = random_weight(4, 16, 96, 32, true);
  const at::Tensor x = at::randn({3, 96});
  const at::Tensor bias = at::randn({16}).requires_grad_(true);
  const at::Tensor step = at::full({1}, 0.05f).requires_grad_(true);
  const Weight rounded =
      with_activations(random_weight(8, 16, 96, 96, true), step);
  const EmulatedKernels kernels;
  apply_linear(x, weight, bias).sum().backward();
  CHECK(at::equal(bias.grad(), at::full({16}, 3.0f)));
  CHECK(EmulatedKernels::take("packed") == 1);
  CHECK(apply_linear(x, rounded, {}).requires_grad());
  CHECK(EmulatedKernels::take("packed") == 0);
}

TEST_CASE("apply_norm: RMSNorm runs on the device, LayerNorm does not") {
  const at::NoGradGuard no_grad;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = at::randn({2, 3, 40}).to(dtype);
    const Norm rms = {(at::randn({40}) * 0.1 + 1).to(dtype), {}};
    const Norm layer = {rms.gain, at::randn({40}).to(dtype)};
    const at::Tensor expected = apply_norm(rms, x, 1e-5);
    const at::Tensor turned = apply_norm(rms, x.transpose(0, 1), 1e-5);
    const at::Tensor layer_expected = apply_norm(layer, x, 1e-5);
    const EmulatedKernels kernels;
    CHECK(relative(apply_norm(rms, x, 1e-5), expected) < tolerance(dtype));
    CHECK(EmulatedKernels::take("norm") == 1);
    CHECK(relative(apply_norm(rms, x.transpose(0, 1), 1e-5), turned) <
          tolerance(dtype));
    CHECK(EmulatedKernels::take("norm") == 1);
    CHECK(at::equal(apply_norm(layer, x, 1e-5), layer_expected));
    const at::Tensor wide = x.to(at::kDouble);
    apply_norm(rms, wide, 1e-5);
    CHECK(EmulatedKernels::take_all() == 0);
  }
}

TEST_CASE("device_norm_of_sum: the sum and its norm") {
  const Norm norm = {at::ones({2}), {}};
  const at::Tensor x = at::tensor({1.0f, 5.0f}), y = at::tensor({2.0f, -1.0f});
  const auto check = [&] {
    const NormedSum both = device_norm_of_sum(norm, x, y, 0);
    CHECK(at::equal(both.sum, at::tensor({3.0f, 4.0f})));
    // sqrt((9 + 16) / 2) = 5 / sqrt 2
    CHECK(at::allclose(both.normed, at::tensor({0.8485281f, 1.1313708f})));
  };
  check();  // the CPU's own kernel, for fp32 alone
  CHECK_FALSE(device_norm_of_sum(norm, x.to(at::kHalf), y.to(at::kHalf), 0)
                  .sum.defined());
  const EmulatedKernels kernels;
  check();
  const at::Tensor free = at::ones({2}).requires_grad_(true);
  CHECK_FALSE(device_norm_of_sum(norm, x, free, 0).sum.defined());
  CHECK_FALSE(device_norm_of_sum({free, {}}, x, y, 0).sum.defined());
}

TEST_CASE("device_silu_product: halves of one tensor and two tensors") {
  const at::Tensor both = at::randn({2, 3, 20}).to(at::kBFloat16);
  const at::Tensor gate = both.narrow(-1, 0, 10), up = both.narrow(-1, 10, 10);
  const at::Tensor expected = at::silu(gate) * up;
  CHECK_FALSE(device_silu_product(gate, up).defined());
  const EmulatedKernels kernels;
  for (const at::Tensor& right : {up, up.contiguous()}) {
    const at::Tensor y = device_silu_product(gate, right);
    CHECK(y.sizes() == expected.sizes());
    CHECK(relative(y, expected) < tolerance(at::kBFloat16));
  }
  // One row: its stride says nothing.
  const at::Tensor one = device_silu_product(
      gate.narrow(0, 0, 1).narrow(1, 0, 1), up.narrow(0, 0, 1).narrow(1, 0, 1));
  CHECK(relative(one, expected.narrow(0, 0, 1).narrow(1, 0, 1)) <
        tolerance(at::kBFloat16));
  CHECK(EmulatedKernels::take("silu") == 3);
}

TEST_CASE("device_rotate: all and some of the dims, both ways of pairing") {
  for (const Rotary rotary : {Rotary::kInterleaved, Rotary::kHalf})
    for (const std::int64_t batch : {1, 2})
      for (const std::int64_t size : {8, 12}) {
        AttentionContext context;
        const at::Tensor angle = at::randn({batch, 3, size / 2});
        context.cosine = angle.cos();
        context.sine = angle.sin();
        // Heads as the projection leaves them.
        const at::Tensor x = at::randn({2, 3, 4, 12}).transpose(1, 2);
        // bf16 goes through libtorch on the CPU.
        const at::Tensor expected =
            at::cat(
                {rotate(x.narrow(-1, 0, size).to(at::kDouble), context, rotary),
                 x.narrow(-1, size, 12 - size).to(at::kDouble)},
                -1)
                .to(at::kFloat);
        CHECK_FALSE(device_rotate(x.to(at::kBFloat16), context, rotary, size)
                        .defined());
        const auto check = [&] {
          const at::Tensor y = device_rotate(x, context, rotary, size);
          REQUIRE(y.defined());
          CHECK(at::allclose(y, expected, 1e-6, 1e-6));
        };
        check();  // the CPU's own
        const EmulatedKernels kernels;
        check();
        CHECK_FALSE(
            device_rotate(x, context, Rotary::kTwoDimensional, size).defined());
      }
}

TEST_CASE("device_decode_attention: plain and coded caches, masks, lengths") {
  const at::Tensor query = at::randn({2, 4, 1, 64}).to(at::kBFloat16);
  const at::Tensor keys = at::randn({2, 2, 90, 64}).to(at::kBFloat16);
  const at::Tensor values = at::randn({2, 2, 90, 64}).to(at::kBFloat16);
  const float never = -std::numeric_limits<float>::infinity();
  at::Tensor bias = at::zeros({2, 1, 1, 90});
  bias.select(0, 1).narrow(-1, 0, 7).fill_(never);
  const at::Tensor lengths = at::tensor({90, 33}, at::kInt);
  at::Tensor unfilled = at::zeros({2, 1, 1, 90});
  unfilled.select(0, 1).narrow(-1, 33, 57).fill_(never);
  for (const int bits : {0, 4, 8})
    for (const bool masked : {false, true})
      for (const bool partial : {false, true}) {
        INFO(bits << " bits, mask " << masked << ", lengths " << partial);
        const auto stored = [&](const at::Tensor& x) {
          return bits > 0 ? encode_heads(x, bits) : x;
        };
        const auto seen = [&](const at::Tensor& x) {
          return (bits > 0 ? round_heads(x, bits) : x)
              .repeat_interleave(2, 1)
              .to(at::kFloat);
        };
        at::Tensor all = at::zeros({2, 1, 1, 90});
        if (masked) all = all + bias;
        if (partial) all = all + unfilled;
        const at::Tensor expected = at::scaled_dot_product_attention(
            query.to(at::kFloat), seen(keys), seen(values), all);
        const EmulatedKernels kernels;
        const at::Tensor y = device_decode_attention(
            query, stored(keys), stored(values), masked ? bias : at::Tensor(),
            partial ? lengths : at::Tensor(), bits);
        REQUIRE(y.defined());
        CHECK(y.sizes() == query.sizes());
        CHECK(relative(y, expected) < 8e-3);
      }
}

TEST_CASE("device_decode_attention: the CPU's own, in fp32") {
  const at::NoGradGuard no_grad;
  const at::Tensor query = at::randn({2, 6, 1, 48});
  // A cache with room for more tokens than are there.
  const at::Tensor cache = at::randn({2, 2, 100, 48});
  const at::Tensor keys = cache.narrow(2, 0, 90), values = keys * 2;
  const at::Tensor room = at::randn({2, 2, 100, 48});
  const at::Tensor wide_values = room.narrow(2, 0, 90);
  at::Tensor bias = at::zeros({2, 1, 1, 90});
  bias.select(0, 0).narrow(-1, 0, 80).fill_(
      -std::numeric_limits<float>::infinity());
  for (const at::Tensor& mask : {at::Tensor(), bias}) {
    const at::Tensor expected = at::scaled_dot_product_attention(
        query, keys.repeat_interleave(3, 1),
        wide_values.repeat_interleave(3, 1),
        mask.defined() ? std::optional(mask) : std::nullopt);
    const at::Tensor y =
        device_decode_attention(query, keys, wide_values, mask, {}, 0);
    REQUIRE(y.defined());
    CHECK(relative(y, expected) < 1e-5);
  }
  CHECK_FALSE(device_decode_attention(query, encode_heads(keys, 8),
                                      encode_heads(values, 8), {}, {}, 8)
                  .defined());
}

TEST_CASE("cpu_prompt_attention: libtorch's, and nothing with gradients") {
  const at::NoGradGuard no_grad;
  // Heads as the projection leaves them.
  const at::Tensor query = at::randn({2, 77, 6, 48}).transpose(1, 2);
  const at::Tensor both = at::randn({2, 77, 2, 96}).transpose(1, 2);
  const at::Tensor key = both.narrow(-1, 0, 48),
                   value = both.narrow(-1, 48, 48);
  const at::Tensor expected = at::scaled_dot_product_attention(
      query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1),
      std::nullopt, 0.0, /*is_causal=*/true);
  const at::Tensor y = cpu_prompt_attention(query, key, value);
  REQUIRE(y.defined());
  CHECK(relative(y, expected) < 1e-5);
  CHECK_FALSE(cpu_prompt_attention(query.to(at::kDouble), key.to(at::kDouble),
                                   value.to(at::kDouble))
                  .defined());
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = value.detach().clone().requires_grad_(true);
  CHECK_FALSE(cpu_prompt_attention(query, key, leaf).defined());
}

TEST_CASE("device_decode_attention: other heads are left to libtorch") {
  const EmulatedKernels kernels;
  const auto is_taken = [](std::int64_t tokens, std::int64_t size,
                           std::int64_t value_size, at::ScalarType dtype) {
    const auto options = at::TensorOptions(dtype);
    return device_decode_attention(at::zeros({1, 2, tokens, size}, options),
                                   at::zeros({1, 2, 5, size}, options),
                                   at::zeros({1, 2, 5, value_size}, options),
                                   {}, {}, 0)
        .defined();
  };
  CHECK(is_taken(1, 64, 64, at::kHalf));
  CHECK_FALSE(is_taken(2, 64, 64, at::kHalf));
  CHECK_FALSE(is_taken(1, 64, 64, at::kFloat));
  CHECK_FALSE(is_taken(1, 32, 32, at::kHalf));
  CHECK_FALSE(is_taken(1, 64, 128, at::kHalf));
}
