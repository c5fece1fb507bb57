// Interleaved weights: the same matrix, products with rounded activations.
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "autoglm/model/forward.h"
#include "autoglm/model/model.h"
#include "tests/support/catch.h"
#include "tests/support/random_weight.h"
#include "tests/support/relative.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using test::error_of;
using test::random_weight;
using test::relative;

namespace {

bool is_integer(const Weight& weight) {
  return std::string(linear_kernel(weight, 1)).find("integer ") == 0;
}

}  // namespace

TEST_CASE("interleaved: the same matrix in another form") {
  for (const int bits : {2, 3, 5, 8})
    for (const bool symmetric : {true, false})
      for (const std::int64_t group : {96, 32, 12}) {
        const Weight packed = random_weight(bits, 37, 96, group, symmetric);
        const Weight laid = interleaved(packed);
        INFO(describe(packed));
        REQUIRE(is_integer(laid));
        CHECK(describe(laid) == describe(packed));
        CHECK(rows(laid) == 37);
        CHECK(columns(laid) == 96);
        CHECK(dtype(laid) == at::kBFloat16);
        CHECK(device(laid) == at::kCPU);
        CHECK(at::equal(to_dense(laid, at::kFloat),
                        to_dense(packed, at::kFloat)));
        const at::Tensor ids = at::tensor({36, 0, 17, 17}, at::kLong);
        CHECK(at::equal(select_rows(laid, ids.view({2, 2}), at::kFloat),
                        select_rows(packed, ids.view({2, 2}), at::kFloat)));
        // A second time nothing happens.
        const Weight again = interleaved(laid);
        CHECK(tensors(again)[0].is_same(tensors(laid)[0]));
      }
}

TEST_CASE("interleaved: takes the memory of the packed form") {
  const Weight packed = random_weight(4, 64, 256, 64, true);
  CHECK(bytes(interleaved(packed)) == bytes(packed));
}

TEST_CASE("interleaved: what has no such form stays as it is") {
  const Weight odd = random_weight(4, 8, 30, 6, true);
  CHECK_FALSE(is_integer(interleaved(odd)));
  CHECK(tensors(interleaved(odd))[0].is_same(tensors(odd)[0]));
  const Weight dense = DenseWeight{at::randn({4, 4})};
  CHECK(tensors(interleaved(dense))[0].is_same(tensors(dense)[0]));
  const Weight float8 = round_float8(at::randn({4, 8}), at::kFloat);
  CHECK(tensors(interleaved(float8))[0].is_same(tensors(float8)[0]));
}

TEST_CASE("interleaved: is not what a checkpoint holds") {
  const Weight laid = interleaved(random_weight(4, 8, 32, 32, true));
  error_of(ErrorKind::kInternal,
           [&] { unpack_codes(std::get<QuantizedWeight>(laid)); });
}

TEST_CASE("apply_linear: an interleaved weight rounds what it multiplies") {
  for (const int bits : {2, 4, 8})
    for (const std::int64_t group : {32, 256})
      for (const std::int64_t count : {1, 5, 40}) {
        const Weight packed = random_weight(bits, 75, 256, group, bits != 4);
        const Weight laid = interleaved(packed);
        const at::Tensor many = at::randn({100, 256});
        CHECK(relative(apply_linear(many, laid, {}),
                       apply_linear(many, packed, {})) < 0.01);
        const at::Tensor x = at::randn({count, 1, 256});
        const at::Tensor bias = at::randn({75});
        const at::Tensor exact = apply_linear(x, packed, bias);
        const at::Tensor y = apply_linear(x, laid, bias);
        INFO(describe(packed) << ", " << count << " rows");
        CHECK(y.sizes() == exact.sizes());
        // Against what such a product usually is: with zero points anywhere in
        // the range a single row may cancel.
        const double size =
            (x.norm() * to_dense(packed, at::kFloat).norm()).item<double>() /
            std::sqrt(256.0);
        const double error = (y - exact).norm().item<double>() / size;
        CHECK(error < 0.01);
        CHECK(error > 1e-4);  // it is not the exact product
        const at::Tensor half = apply_linear(x.to(at::kBFloat16), laid, bias);
        CHECK(half.scalar_type() == at::kBFloat16);
        CHECK((half - exact).norm().item<double>() / size < 0.015);
        const at::Tensor each = at::randn({count, 75});
        CHECK(at::allclose(apply_linear(x, laid, each),
                           apply_linear(x, laid, {}) + each.unsqueeze(1)));
      }
}

TEST_CASE("apply_linear: an interleaved weight is exact for gradients") {
  const Weight packed = random_weight(4, 33, 64, 32, true);
  const Weight laid = interleaved(packed);
  const at::Tensor x = at::randn({3, 64}).requires_grad_(true);
  const at::Tensor y = apply_linear(x, laid, {});
  CHECK(relative(y.detach(), apply_linear(x.detach(), packed, {})) < 1e-5);
  y.sum().backward();
  CHECK(at::allclose(x.grad(),
                     to_dense(packed, at::kFloat).sum(0).expand({3, 64}), 1e-4,
                     1e-4));
}

TEST_CASE("apply_linear: rounded activations of a weight keep their steps") {
  // The weight's own scheme rounds whole rows by one step; interleaved it must
  // do just that, not round spans.
  const Weight plain = random_weight(8, 40, 192, 192, true);
  const at::Tensor step = at::full({1}, 0.02f);
  for (const Weight& packed :
       {with_activations(plain), with_activations(plain, step)})
    for (const std::int64_t count : {1, 30}) {
      const at::Tensor x = at::randn({count, 192});
      INFO(describe(packed));
      CHECK(relative(apply_linear(x, interleaved(packed), {}),
                     apply_linear(x, packed, {})) < 1e-5);
      CHECK(apply_linear(at::zeros({count, 192}), interleaved(packed), {})
                .abs()
                .max()
                .item<float>() == 0);
    }
}

TEST_CASE("apply_linears: what each matrix gives by itself") {
  const auto linear = [](Weight weight, bool bias) {
    const std::int64_t out = rows(weight);
    return Linear{std::move(weight), bias ? at::randn({out}) : at::Tensor()};
  };
  const Linear a = linear(interleaved(random_weight(4, 37, 64, 32, true)),
                          true),
               b = linear(interleaved(random_weight(8, 5, 64, 32, false)),
                          false),
               c = linear(interleaved(random_weight(4, 16, 64, 64, true)),
                          false),
               d = linear(DenseWeight{at::randn({9, 64})}, true);
  for (const auto& group : std::vector<std::vector<const Linear*>>{
           {&a}, {&a, &b}, {&b, &a, &b}, {&a, &c}, {&a, &d}, {&d, &a}})
    for (const bool gradient : {false, true}) {
      const at::Tensor x = at::randn({2, 3, 64}).requires_grad_(gradient);
      const std::vector<at::Tensor> together = apply_linears(x, group);
      REQUIRE(together.size() == group.size());
      for (std::size_t i = 0; i < group.size(); ++i)
        CHECK(at::equal(together[i],
                        apply_linear(x, group[i]->weight, group[i]->bias)));
    }
}

TEST_CASE("to_compute: interleaves quantized matrices when asked to") {
  for (const char* family : {"glm4", "glm4_moe", "glm_moe_dsa", "glm"}) {
    INFO(family);
    Model model = test::tiny_model(family);
    for (const NamedLinear& linear : named_linears(model)) {
      const at::Tensor dense =
          to_dense(weight_of(model, linear.name), at::kFloat);
      const at::Tensor size = dense.abs().amax(-1, true).clamp_min(1e-6) / 127;
      weight_of(model, linear.name) = pack_weight(
          (dense / size).round().add(128).clamp(1, 255).to(at::kByte), size, {},
          8, dense.size(1));
    }
    const Model exact = to_compute(model, at::kCPU, at::kFloat);
    const Model fast =
        to_compute(model, at::kCPU, at::kFloat, QuantizedProduct::kInteger);
    std::int64_t integer = 0;
    for (const NamedLinear& linear : named_linears(fast)) {
      INFO(linear.name);
      const bool looked_up = linear.name == "embedding" && fast.head;
      CHECK(is_integer(weight_of(fast, linear.name)) == !looked_up);
      integer += !looked_up;
      CHECK_FALSE(is_integer(weight_of(model, linear.name)));
      CHECK_FALSE(is_integer(weight_of(exact, linear.name)));
    }
    CHECK(integer > 0);
    const at::NoGradGuard no_grad;
    const at::Tensor ids = at::arange(12).view({1, 12});
    CHECK(relative(forward(fast, ids), forward(exact, ids)) < 0.05);
  }
}

TEST_CASE("to_compute: a model that is moved gives its weights up") {
  Model model;
  Weight packed = random_weight(4, 16, 32, 32, true);
  const at::Tensor codes = tensors(packed)[0];
  model.head = Linear{std::move(packed), {}};
  model.embedding = DenseWeight{at::zeros({4, 4})};
  const Model fast = to_compute(std::move(model), at::kCPU, at::kFloat,
                                QuantizedProduct::kInteger);
  CHECK(is_integer(fast.head->weight));
  CHECK(codes.use_count() == 1);  // this test alone still holds it
}
