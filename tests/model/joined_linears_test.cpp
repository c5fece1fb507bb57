// Matrices behind one another in memory, multiplied at once on a device.
#include "model/joined_linears.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/forward.h"
#include "tests/support/catch.h"
#include "tests/support/emulated_kernels.h"
#include "tests/support/packed_model.h"
#include "tests/support/random_weight.h"
#include "tests/support/relative.h"

using namespace autoglm;
using test::EmulatedKernels;
using test::random_weight;
using test::relative;

namespace {

Linear linear(int bits, std::int64_t out, bool symmetric, bool bias,
              std::int64_t group = 32) {
  return {random_weight(bits, out, 64, group, symmetric, at::kFloat),
          bias ? at::randn({out}) : at::Tensor()};
}

bool can_be_joined(Linear a, Linear b) {
  const at::Tensor codes = tensors(b.weight)[0];
  join({&a, &b});
  const bool is_joined = joined({&a, &b}).has_value();
  CHECK(tensors(b.weight)[0].is_same(codes) == !is_joined);
  return is_joined;
}

}  // namespace

TEST_CASE("join: every matrix stays what it was, all together are one") {
  for (const bool symmetric : {true, false})
    for (const bool bias : {true, false}) {
      Linear a = linear(3, 7, symmetric, bias),
             b = linear(3, 5, symmetric, bias),
             c = linear(3, 9, symmetric, bias);
      const Linear old[] = {a, b, c};
      CHECK_FALSE(joined({&a, &b, &c}));
      join({&a, &b, &c});
      const Linear* own[] = {&a, &b, &c};
      std::vector<at::Tensor> matrices, biases;
      for (int i = 0; i < 3; ++i) {
        matrices.push_back(to_dense(own[i]->weight, at::kFloat));
        CHECK(at::equal(matrices.back(), to_dense(old[i].weight, at::kFloat)));
        if (bias) biases.push_back(own[i]->bias);
        if (bias) CHECK(at::equal(own[i]->bias, old[i].bias));
      }
      const std::optional<Linear> all = joined({&a, &b, &c});
      REQUIRE(all);
      CHECK(rows(all->weight) == 21);
      CHECK(at::equal(to_dense(all->weight, at::kFloat), at::cat(matrices)));
      CHECK(all->bias.defined() == bias);
      if (bias) CHECK(at::equal(all->bias, at::cat(biases)));
      // In this order only, and nothing left out.
      CHECK_FALSE(joined({&b, &a, &c}));
      CHECK_FALSE(joined({&a, &c}));
      CHECK(joined({&b, &c}));
    }
}

TEST_CASE("join: what is not of one form stays as it is") {
  CHECK(can_be_joined(linear(4, 8, true, true), linear(4, 16, true, true)));
  CHECK_FALSE(
      can_be_joined(linear(4, 8, true, true), linear(3, 8, true, true)));
  CHECK_FALSE(
      can_be_joined(linear(4, 8, true, true), linear(4, 8, false, true)));
  CHECK_FALSE(
      can_be_joined(linear(4, 8, true, true), linear(4, 8, true, false)));
  CHECK_FALSE(
      can_be_joined(linear(4, 8, true, true), linear(4, 8, true, true, 64)));
  CHECK_FALSE(can_be_joined(linear(4, 8, true, true),
                            {DenseWeight{at::randn({8, 64})}, at::zeros(8)}));
  Linear fixed = linear(8, 8, true, false, 64);
  fixed.weight = with_activations(fixed.weight, at::ones({1}));
  CHECK_FALSE(can_be_joined(fixed, fixed));
  Linear absent;
  join({&absent, &absent});
  CHECK_FALSE(joined({&absent, &absent}));
}

TEST_CASE("apply_linears: one product on a device, where they lie together") {
  Linear a = linear(4, 24, false, true), b = linear(4, 8, false, true);
  const at::Tensor x = at::randn({2, 3, 64});
  const std::vector<at::Tensor> apart = apply_linears(x, {&a, &b});
  join({&a, &b});
  for (const bool gradient : {false, true}) {
    const at::Tensor own = x.clone().requires_grad_(gradient);
    const EmulatedKernels kernels;
    const std::vector<at::Tensor> both = apply_linears(own, {&a, &b});
    CHECK(EmulatedKernels::take("packed") == (gradient ? 0 : 1));
    REQUIRE(both.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(both[i].sizes() == apart[i].sizes());
      CHECK(relative(both[i].detach(), apart[i]) < 2e-6);
    }
  }
}

TEST_CASE("to_compute: the fast form of a device joins what reads the same") {
  const at::NoGradGuard no_grad;
  for (const char* family : {"glm", "glm4_moe", "glm4_moe_lite"}) {
    INFO(family);
    test::TinySize size;
    size.hidden = size.ffn = 64;
    size.head_size = 16;
    Model model = test::tiny_model(family, 1, size);
    for (const NamedLinear& linear : named_linears(model)) {
      Weight& weight = weight_of(model, linear.name);
      if (columns(weight) % 32 == 0)
        weight = test::packed(to_dense(weight, at::kFloat), 4, 32);
    }
    const at::Tensor ids = test::random_windows(1, 6);
    const EmulatedKernels kernels;
    const Model exact = to_compute(model, at::kCPU, at::kFloat);
    const Model fast =
        to_compute(model, at::kCPU, at::kFloat, QuantizedProduct::kInteger);
    EmulatedKernels::take_all();
    const at::Tensor expected = forward(exact, ids);
    const int before = EmulatedKernels::take("packed");
    CHECK(relative(forward(fast, ids), expected) < 1e-5);
    const int after = EmulatedKernels::take("packed");
    // Queries, keys and values of both blocks; gate and up.
    CHECK(after <= before - (std::string(family) == "glm4_moe_lite" ? 1 : 4));
    for (const NamedLinear& linear : named_linears(fast))
      CHECK(at::equal(to_dense(weight_of(fast, linear.name), at::kFloat),
                      to_dense(weight_of(exact, linear.name), at::kFloat)));
  }
}
