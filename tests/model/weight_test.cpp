#include "autoglm/model/weight.h"

#include "autoglm/model/dense_product.h"
#include "tests/support/catch.h"

using namespace autoglm;

namespace {

QuantizedWeight random_weight(int bits, std::int64_t group, bool symmetric) {
  const std::int64_t out = 37, in = 96;
  const at::Tensor codes =
      at::randint(1 << bits, {out, in}, at::kLong).to(at::kByte);
  const at::Tensor scales =
      (at::rand({out, in / group}) + 0.1).to(at::kBFloat16);
  const at::Tensor zeros =
      symmetric
          ? at::Tensor()
          : at::randint(1 << bits, {out, in / group}, at::kLong).to(at::kByte);
  return pack_weight(codes, scales, zeros, bits, group);
}

// (code - zero) * scale, written out with plain tensor operations.
at::Tensor reference(const QuantizedWeight& w) {
  at::Tensor codes =
      unpack_codes(w).to(at::kFloat).view({w.out, w.groups(), w.group_size});
  const at::Tensor zero =
      w.symmetric()
          ? at::full({w.out, w.groups()}, 1 << (w.bits - 1), at::kFloat)
          : w.zeros.to(at::kFloat);
  return ((codes - zero.unsqueeze(-1)) * w.scales.to(at::kFloat).unsqueeze(-1))
      .view({w.out, w.in});
}

}  // namespace

TEST_CASE("weight: packing and dequantizing agree for every width and group") {
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::int64_t group : {96, 32, 16, 12})
      for (const bool symmetric : {true, false}) {
        INFO(bits << " bits, group " << group << ", symmetric " << symmetric);
        const QuantizedWeight w = random_weight(bits, group, symmetric);
        CHECK(w.codes.size(1) == (96 * bits + 31) / 32);
        CHECK(at::equal(to_dense(w, at::kFloat), reference(w)));
      }
}

TEST_CASE("weight: few and many rows, with and without gradients, agree") {
  for (const int bits : {3, 4, 8}) {
    const QuantizedWeight w = random_weight(bits, 32, bits == 4);
    const at::Tensor dense = reference(w);
    const at::Tensor bias = at::randn({37});
    for (const std::int64_t rows : {1, 5, 16, 17, 40}) {
      const at::Tensor x = at::randn({rows, 96});
      const at::Tensor expected = at::linear(x, dense, bias);
      const double size = expected.abs().max().item<double>();
      CHECK((apply_linear(x, w, bias) - expected).abs().max().item<double>() <
            1e-5 * size);
      const at::Tensor leaf = x.clone().requires_grad_(true);
      apply_linear(leaf, w, bias).sum().backward();
      CHECK(at::allclose(leaf.grad(), dense.sum(0).expand({rows, 96}), 1e-4,
                         1e-3));
    }
  }
}

TEST_CASE("weight: fp8 agrees with its dense matrix and its gradient") {
  const Float8Weight w = round_float8(at::randn({37, 96}), at::kBFloat16);
  const at::Tensor dense = w.values.to(at::kFloat) * w.scales.to(at::kFloat);
  CHECK(at::equal(to_dense(w, at::kFloat), dense));
  const at::Tensor bias = at::randn({37});
  for (const std::int64_t rows : {1, 17}) {
    const at::Tensor x = at::randn({rows, 96}).requires_grad_(true);
    const at::Tensor y = apply_linear(x, w, bias);
    CHECK(at::equal(y, dense_product(x, dense) + bias));
    y.sum().backward();
    CHECK(at::allclose(x.grad(), dense.sum(0).expand({rows, 96}), 1e-4, 1e-4));
  }
  const at::Tensor ids = at::tensor({5, 0, 36, 5}, at::kLong).view({2, 2});
  CHECK(at::equal(select_rows(w, ids, at::kFloat), at::embedding(dense, ids)));
}

TEST_CASE("weight: rows are selected without unpacking the rest") {
  const QuantizedWeight w = random_weight(4, 32, false);
  const at::Tensor ids = at::tensor({5, 0, 36, 5}, at::kLong).view({2, 2});
  CHECK(at::equal(select_rows(w, ids, at::kFloat),
                  at::embedding(reference(w), ids)));
}

TEST_CASE("weight: bytes are those of the tensors, words of forms are plain") {
  const Weight w = random_weight(4, 32, true);
  CHECK(bytes(w) == 37 * 12 * 4 + 37 * 3 * 2);
  CHECK(code_bits(w) == 4);
  CHECK(describe(w) == "int4 g32 symmetric");
  CHECK(describe(Weight(random_weight(8, 96, false))) ==
        "int8 channel asymmetric");
  CHECK(describe(Weight(DenseWeight{at::zeros({2, 2}, at::kBFloat16)})) ==
        "dense bf16");
  const Weight float8 = round_float8(at::randn({37, 96}), at::kBFloat16);
  CHECK(bytes(float8) == 37 * 96 + 37 * 2);
  CHECK(code_bits(float8) == 8);
  CHECK(describe(float8) == "fp8 e4m3 channel");
  CHECK(rows(float8) == 37);
  CHECK(columns(float8) == 96);
  CHECK(dtype(float8) == at::kBFloat16);
  CHECK(std::string(linear_kernel(float8, 1)) == "dequantize + gemm");
  CHECK(std::string(linear_kernel(w, 100)) == "dequantize + gemm");
  CHECK(std::string(linear_kernel(w, 1)).find("packed ") == 0);
}

TEST_CASE("weight: a bias per token, and the gradient at the output") {
  const at::Tensor x = at::randn({2, 3, 8});
  const Weight weight = DenseWeight{at::randn({4, 8})};
  const at::Tensor bias = at::randn({2, 3, 4}).requires_grad_(true);
  const at::Tensor y = apply_linear(x, weight, bias);
  CHECK(at::allclose(y, apply_linear(x, weight, {}) + bias));
  const at::Tensor gradient = at::randn({2, 3, 4});
  y.backward(gradient);
  CHECK(at::equal(bias.grad(), gradient));
}
