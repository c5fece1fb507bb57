#include "autoglm/model/dense_product.h"

#include <ATen/Context.h>

#include "tests/support/catch.h"

using namespace autoglm;

namespace {

// As libtorch alone computes it.
class WithoutOneDnn {
 public:
  WithoutOneDnn() { at::globalContext().setUserEnabledMkldnn(false); }
  ~WithoutOneDnn() { at::globalContext().setUserEnabledMkldnn(true); }
};

// Of a matrix whose terms are about 1.
void check_close(const at::Tensor& found, const at::Tensor& expected,
                 std::int64_t terms) {
  REQUIRE(found.sizes() == expected.sizes());
  CHECK(found.scalar_type() == expected.scalar_type());
  if (found.numel() > 0)
    CHECK((found - expected).abs().max().item<double>() <
          1e-6 * static_cast<double>(terms));
}

}  // namespace

TEST_CASE("dense_product: by hand") {
  const at::Tensor x = at::tensor({1.F, 2.F, 3.F, 4.F}).view({2, 2});
  const at::Tensor w = at::tensor({1.F, 0.F, 0.F, 1.F, 2.F, -1.F}).view({3, 2});
  const at::Tensor bias = at::tensor({0.F, 0.F, 10.F});
  CHECK(at::equal(dense_product(x, w, bias),
                  at::tensor({1.F, 2.F, 10.F, 3.F, 4.F, 12.F}).view({2, 3})));
  CHECK(at::equal(inner_product(x, x),
                  at::tensor({10.F, 14.F, 14.F, 20.F}).view({2, 2})));
}

TEST_CASE("dense_product: what at::linear gives, whatever the shape") {
  at::manual_seed(3);
  for (const std::int64_t rows : {0, 1, 3, 17, 260})
    for (const std::int64_t in : {1, 5, 64, 129})
      for (const std::int64_t out : {1, 7, 96}) {
        INFO(rows << " x " << in << " times " << out);
        const at::Tensor x = at::randn({2, rows, in});
        const at::Tensor w = at::randn({out, in}), bias = at::randn({out});
        check_close(dense_product(x, w, bias), at::linear(x, w, bias), in);
        check_close(dense_product(x[1], w), at::linear(x[1], w), in);
      }
}

TEST_CASE("dense_product: views that are not contiguous") {
  at::manual_seed(4);
  const at::Tensor wide = at::randn({40, 96}), w = at::randn({64, 48});
  const at::Tensor columns = wide.narrow(1, 30, 48);
  check_close(dense_product(columns, w), at::linear(columns, w), 48);
  check_close(
      dense_product(wide.t(), wide.narrow(1, 0, 40).t().contiguous().t().narrow(
                                  0, 0, 12)),
      at::linear(wide.t(), wide.narrow(1, 0, 40).narrow(0, 0, 12)), 40);
  check_close(inner_product(wide, columns), at::mm(wide.t(), columns), 40);
}

TEST_CASE("dense_product: gradients as at::linear has them") {
  at::manual_seed(5);
  const at::Tensor x = at::randn({2, 9, 33}), w = at::randn({20, 33});
  const at::Tensor bias = at::randn({20}), g = at::randn({2, 9, 20});
  const auto leaves = [&] {
    return std::vector<at::Tensor>{x.clone().requires_grad_(true),
                                   w.clone().requires_grad_(true),
                                   bias.clone().requires_grad_(true)};
  };
  const std::vector<at::Tensor> own = leaves(), other = leaves();
  (dense_product(own[0], own[1], own[2]) * g).sum().backward();
  (at::linear(other[0], other[1], other[2]) * g).sum().backward();
  for (std::size_t i = 0; i < own.size(); ++i)
    check_close(own[i].grad(), other[i].grad(), 33);
  // Only what is asked for.
  const at::Tensor alone = w.clone().requires_grad_(true);
  dense_product(x, alone).sum().backward();
  check_close(alone.grad(), x.sum(at::IntArrayRef({0, 1})).expand({20, 33}), 18);
}

TEST_CASE(
    "dense_product: other dtypes, and oneDNN switched off, are libtorch") {
  const at::Tensor x = at::randn({5, 16}), w = at::randn({8, 16});
  for (const at::ScalarType dtype : {at::kDouble, at::kBFloat16})
    CHECK(at::equal(dense_product(x.to(dtype), w.to(dtype)),
                    at::linear(x.to(dtype), w.to(dtype))));
  const WithoutOneDnn off;
  CHECK(at::equal(dense_product(x, w), at::linear(x, w)));
  CHECK(std::string(dense_product_library()) == "libtorch");
}

TEST_CASE("dense_product: this libtorch has oneDNN's product") {
  // If it has not any more, all fp32 work on AMD processors takes twice the
  // time, and only this says so.
  if (at::hasMKLDNN()) CHECK(std::string(dense_product_library()) == "oneDNN");
}
