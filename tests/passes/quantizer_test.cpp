#include "passes/quantization/quantizer.h"

#include "tests/support/catch.h"

using namespace autoglm;

namespace {
Grid grid(int bits, std::int64_t group, bool symmetric) {
  return {bits, group, symmetric, at::kFloat};
}
}  // namespace

TEST_CASE("quantizer: a 2 x 4 matrix by hand, symmetric") {
  // Row 0: max|w| = 3 -> scale 3 / 1.5 = 2 at 2 bits; zero = 2.
  const at::Tensor w =
      at::tensor({3.f, -1.f, 0.4f, -3.f, 0.f, 0.f, 0.f, 0.f}).view({2, 4});
  const Grid g = grid(2, 4, true);
  const GridFit fit = fit_min_max(w, g);
  CHECK(fit.scales[0][0].item<float>() == 2.f);
  CHECK(fit.scales[1][0].item<float>() == 1.f);  // all zero: any scale
  const at::Tensor codes = nearest_codes(w, fit, g);
  // 3/2+2 = 3.5 -> 4, clipped to 3; -0.5+2 = 1.5 -> 2; 2.2 -> 2; 0.5 -> 0
  CHECK(at::equal(codes[0], at::tensor({3.f, 2.f, 2.f, 0.f})));
  CHECK(at::equal(
      dequantize({codes, fit}, g),
      at::tensor({2.f, 0.f, 0.f, -4.f, 0.f, 0.f, 0.f, 0.f}).view({2, 4})));
}

TEST_CASE("quantizer: a 2 x 4 matrix by hand, asymmetric") {
  // Range [-1, 2] at 2 bits: scale 1, zero 1; a constant row keeps 0 inside.
  const at::Tensor w =
      at::tensor({-1.f, 0.2f, 0.9f, 2.f, 3.f, 3.f, 3.f, 3.f}).view({2, 4});
  const Grid g = grid(2, 4, false);
  const GridFit fit = fit_min_max(w, g);
  const at::Tensor codes = nearest_codes(w, fit, g);
  CHECK(at::equal(codes[0], at::tensor({0.f, 1.f, 2.f, 3.f})));
  CHECK(at::equal(dequantize({codes, fit}, g)[1], w[1]));
}

TEST_CASE("quantizer: the error stays within half a step inside the range") {
  for (const bool symmetric : {true, false})
    for (int bits = 2; bits <= 8; ++bits) {
      const at::Tensor w = at::randn({16, 64});
      const Grid g = grid(bits, 32, symmetric);
      const GridFit fit = fit_min_max(w, g);
      const at::Tensor error =
          (dequantize({nearest_codes(w, fit, g), fit}, g) - w).abs();
      // The full symmetric range clips its positive end by half a step, and
      // an asymmetric zero point is rounded to an integer. A storable scale has
      // 8 significant bits: rounded down by up to 2^-9 of its size, the range
      // of all levels ends so much earlier.
      const at::Tensor limit = fit.scales.repeat_interleave(32, 1) *
                               (1.001 + static_cast<double>(g.levels()) / 512);
      CHECK((error <= limit).all().item<bool>());
      CHECK((error <= fit.scales.repeat_interleave(32, 1) * 0.5005)
                .to(at::kFloat)
                .mean()
                .item<float>() > 0.9f);
    }
}

TEST_CASE("quantizer: searched scales are never worse than full ranges") {
  for (const int bits : {2, 3, 4, 8}) {
    const at::Tensor w = at::randn({8, 64}).pow(3);
    const at::Tensor importance = at::rand({64}) + 0.01;
    const Grid g = grid(bits, 16, true);
    const auto error = [&](const GridFit& fit) {
      return ((dequantize({nearest_codes(w, fit, g), fit}, g) - w).square() *
              importance)
          .sum()
          .item<double>();
    };
    CHECK(error(fit_least_error(w, importance, g)) <=
          error(fit_min_max(w, g)) * (1 + 1e-6));
  }
}

TEST_CASE("quantizer: rows in parts give what the whole matrix gives") {
  const Grid g = grid(4, 1 << 14, true);
  const at::Tensor w = at::randn({1030, 1 << 15});  // two parts
  int parts = 0;
  const Rounded joined = by_rows(w, [&](const at::Tensor& rows) {
    ++parts;
    const GridFit fit = fit_min_max(rows, g);
    return Rounded{nearest_codes(rows, fit, g), fit};
  });
  CHECK(parts == 2);
  const GridFit fit = fit_min_max(w, g);
  CHECK(at::equal(joined.fit.scales, fit.scales));
  CHECK(at::equal(joined.codes.to(at::kFloat), nearest_codes(w, fit, g)));
}

TEST_CASE("quantizer: packed it stands for exactly the same numbers") {
  for (const bool symmetric : {true, false}) {
    Grid g = grid(5, 20, symmetric);
    g.scale_dtype = at::kBFloat16;
    const at::Tensor w = at::randn({7, 60});
    const GridFit fit = fit_min_max(w, g);
    const at::Tensor codes = nearest_codes(w, fit, g);
    CHECK(at::equal(to_dense(pack({codes, fit}, g), at::kFloat),
                    dequantize({codes, fit}, g)));
  }
}

TEST_CASE("quantizer: one column and one row work") {
  const Grid g = grid(4, 1, true);
  const at::Tensor w = at::tensor({-2.f}).view({1, 1});
  const GridFit fit = fit_min_max(w, g);
  CHECK(dequantize({nearest_codes(w, fit, g), fit}, g).item<float>() ==
        Approx(-2.0).epsilon(0.07));
}

TEST_CASE("quantizer: scales are those that bf16 and fp16 both hold") {
  const at::Tensor scales = storable_scales(
      at::tensor({1.f / 3, -0.7f, 1e-9f, -1e-9f, 1e9f, 0.f, 123.456f}));
  CHECK(at::equal(scales, scales.to(at::kBFloat16).to(at::kFloat)));
  CHECK(at::equal(scales, scales.to(at::kHalf).to(at::kFloat)));
  CHECK(scales[2].item<float>() == 0x1p-17f);
  CHECK(scales[3].item<float>() == -0x1p-17f);
  CHECK(scales[4].item<float>() == 65280.f);
  CHECK(scales[5].item<float>() == 1.f);
  CHECK(scales[1].item<float>() == Approx(-0.7).epsilon(0.004));
}

TEST_CASE("quantizer: the search turns a grid over for its odd code") {
  // At 2 bits the values are -2 .. 1 steps: {2, 0, 1, 1} fits exactly with the
  // scale -1 alone.
  const at::Tensor w = at::tensor({2.f, 0.f, 1.f, 1.f}).view({1, 4});
  const Grid g = grid(2, 4, true);
  const GridFit fit = fit_least_error(w, {}, g);
  CHECK(fit.scales.item<float>() == Approx(-1.0).epsilon(0.03));
  const at::Tensor error = dequantize({nearest_codes(w, fit, g), fit}, g) - w;
  CHECK(error.abs().max().item<float>() < 0.06f);
}

TEST_CASE("quantizer: positions of some parts alone are not joined") {
  const Grid g = grid(4, 1 << 14, true);
  const at::Tensor w = at::randn({1030, 1 << 15});  // two parts
  int parts = 0;
  const Rounded joined = by_rows(w, [&](const at::Tensor& rows) {
    const GridFit fit = fit_min_max(rows, g);
    Rounded part = {nearest_codes(rows, fit, g), fit};
    if (++parts == 1) part.positions = positions_of(rows, fit, g);
    return part;
  });
  CHECK(parts == 2);
  CHECK_FALSE(joined.positions.defined());
}
