#include "model/few_rows.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/dense_product.h"
#include "autoglm/model/generate.h"
#include "autoglm/model/model.h"
#include "tests/support/catch.h"
#include "tests/support/relative.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using test::relative;

TEST_CASE("few_rows_product: what a product in double gives") {
  for (const at::ScalarType stored : {at::kFloat, at::kBFloat16, at::kHalf})
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      for (const std::int64_t count : {1, 3, 8}) {
        const at::Tensor w = at::randn({300, 70}).to(stored);
        const at::Tensor x = at::randn({count, 1, 70}).to(type);
        const at::Tensor y = few_rows_product(x, w);
        REQUIRE(y.defined());
        CHECK(y.scalar_type() == type);
        CHECK(y.sizes() == at::IntArrayRef{count, 1, 300});
        const at::Tensor exact =
            at::linear(x.to(at::kDouble), w.to(at::kDouble));
        CHECK(relative(y.to(at::kDouble), exact) <
              (type == at::kFloat ? 1e-6 : 4e-3));
      }
}

TEST_CASE("few_rows_product: rows of a larger matrix and vectors in columns") {
  const at::Tensor whole = at::randn({20, 64});
  const at::Tensor w = whole.narrow(0, 3, 9).narrow(1, 8, 32);
  const at::Tensor x = at::randn({32, 2}).t();
  const at::Tensor y = few_rows_product(x, w);
  REQUIRE(y.defined());
  CHECK(relative(y, at::linear(x, w)) < 1e-6);
}

TEST_CASE("few_rows_product: leaves what it cannot do") {
  const at::Tensor w = at::randn({8, 16}), x = at::randn({1, 16});
  CHECK_FALSE(few_rows_product(at::randn({9, 16}), w).defined());
  CHECK_FALSE(few_rows_product(at::empty({0, 16}), w).defined());
  CHECK_FALSE(few_rows_product(x.to(at::kDouble), w).defined());
  CHECK_FALSE(few_rows_product(x, w.to(at::kDouble)).defined());
  CHECK_FALSE(few_rows_product(at::randn({1, 8}), w.t()).defined());
  CHECK_FALSE(few_rows_product(x, at::empty({0, 16})).defined());
  CHECK_FALSE(few_rows_product(at::randn({2, 8}), w).defined());
  const at::Tensor learned = w.clone().set_requires_grad(true);
  CHECK_FALSE(few_rows_product(x, learned).defined());
  CHECK_FALSE(few_rows_product(x.clone().set_requires_grad(true), w).defined());
  const at::NoGradGuard no_grad;
  CHECK(few_rows_product(x, learned).defined());
}

TEST_CASE("apply_linear: few rows as many, with a bias for all or for each") {
  const Weight w = DenseWeight{at::randn({24, 48}).to(at::kBFloat16)};
  CHECK(linear_kernel(w, 8).starts_with("dense bf16 "));
  CHECK(linear_kernel(w, 9) == "dense");
  const at::Tensor x = at::randn({12, 48});
  for (const at::Tensor& bias :
       {at::Tensor(), at::randn({24}), at::randn({12, 24})}) {
    const at::Tensor all = apply_linear(x, w, bias);
    const at::Tensor own =
        bias.defined() && bias.dim() > 1 ? bias.narrow(0, 4, 2) : bias;
    CHECK(relative(apply_linear(x.narrow(0, 4, 2), w, own),
                   all.narrow(0, 4, 2)) < 1e-6);
  }
}

TEST_CASE("to_compute: the fast form leaves matrices of 16 bits as they are") {
  const Model model = test::tiny_model();
  const auto head_dtype = [&](at::ScalarType stored, at::ScalarType compute,
                              QuantizedProduct product) {
    const Model half = to_compute(model, at::kCPU, stored);
    return dtype(head_weight(to_compute(half, at::kCPU, compute, product)));
  };
  using enum QuantizedProduct;
  CHECK(head_dtype(at::kBFloat16, at::kFloat, kInteger) == at::kBFloat16);
  CHECK(head_dtype(at::kHalf, at::kFloat, kInteger) == at::kHalf);
  CHECK(head_dtype(at::kBFloat16, at::kFloat, kExact) == at::kFloat);
  CHECK(head_dtype(at::kFloat, at::kBFloat16, kInteger) == at::kBFloat16);
  const Model wide = to_compute(model, at::kCPU, at::kFloat);
  REQUIRE(wide.head.has_value());
  CHECK(dtype(to_compute(wide, at::kCPU, at::kBFloat16, kInteger).embedding) ==
        at::kFloat);
  CHECK(dtype(to_compute(wide, at::kCPU, at::kBFloat16, kExact).embedding) ==
        at::kBFloat16);
  // Logits are not rounded, whatever the processor offers for the blocks.
  const Model fast = to_compute(to_compute(model, at::kCPU, at::kBFloat16),
                                at::kCPU, at::kFloat, kInteger);
  CHECK_FALSE(std::get<DenseWeight>(head_weight(fast)).rounds_inputs);
  CHECK(std::get<DenseWeight>(fast.blocks[0].attention.output.weight)
            .rounds_inputs == has_bfloat16_product());
}

TEST_CASE(
    "apply_linear: many rows are rounded to bf16 only if the weight says") {
  const at::Tensor value = at::randn({40, 64}).to(at::kBFloat16);
  const Weight exact = DenseWeight{value}, fast = DenseWeight{value, true};
  const at::Tensor x = at::randn({2, 10, 64}), bias = at::randn({40});
  const at::Tensor expected = at::linear(x, value.to(at::kFloat), bias);
  CHECK(relative(apply_linear(x, exact, bias), expected) < 1e-6);
  const at::Tensor y = apply_linear(x, fast, bias);
  CHECK(y.scalar_type() == at::kFloat);
  CHECK(relative(y, expected) < 4e-3);
  CHECK_FALSE(at::equal(y, apply_linear(x, exact, bias)));
  CHECK(linear_kernel(fast, 20) == "dense bf16");
  CHECK(linear_kernel(exact, 20) == "dense");
  // A gradient goes through the exact product, and few rows are exact anyway.
  const at::Tensor learned = x.clone().set_requires_grad(true);
  CHECK(relative(apply_linear(learned, fast, bias).detach(), expected) < 1e-6);
  CHECK(relative(apply_linear(x[0].narrow(0, 0, 4), fast, bias),
                 expected[0].narrow(0, 0, 4)) < 1e-6);
}

TEST_CASE("generate: matrices of 16 bits give the text of the same in fp32") {
  const Model half = to_compute(test::tiny_model(), at::kCPU, at::kBFloat16);
  const at::Tensor prompt = at::arange(0, 12, at::kLong).unsqueeze(0);
  GenerateOptions options;
  options.max_tokens = 16;
  const auto text = [&](QuantizedProduct product) {
    return generate(to_compute(half, at::kCPU, at::kFloat, product), prompt,
                    options, nullptr);
  };
  CHECK(at::equal(text(QuantizedProduct::kExact),
                  text(QuantizedProduct::kInteger)));
}
