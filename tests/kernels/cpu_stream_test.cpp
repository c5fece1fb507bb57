// The norm, the gated activation and the rotation on the CPU.
#include <algorithm>
#include <cmath>

#include "tests/kernels/cpu_stream_case.h"

namespace autoglm::kernels::cpu {

using test::empty;
using test::for_each_level;
using test::near;
using test::normal;
using test::Values;

TEST_CASE("cpu rms_norm: by hand, with and without a sum") {
  const Values x = {3, 4}, residual = {-3, 8}, gain = {2, 0.5F};
  for_each_level([&] {
    Values y = empty(2), sum = empty(2);
    NormArguments a = {};
    a.x = x.data();
    a.gain = gain.data();
    a.y = y.data();
    a.type = cuda::NumberType::kFloat32;
    a.rows = 1;
    a.size = 2;
    a.epsilon = 12.5F;  // the mean square is 12.5, the divisor 5
    rms_norm(a, 0, 1);
    CHECK(y == Values{6.F / 5, 2.F / 5});
    a.residual = residual.data();
    a.sum = sum.data();
    a.epsilon = 0;
    rms_norm(a, 0, 1);
    CHECK(sum == Values{0, 12});
    CHECK(y[0] == 0);
    CHECK(near(y[1], 0.5 * std::sqrt(2.0), 1e-7));
  });
}

TEST_CASE("cpu rms_norm: any width, rows apart from each other") {
  for (const std::int64_t size : {1, 15, 16, 31, 48, 100, 2048}) {
    const std::int64_t rows = 5;
    const Values x = normal(rows * size, 1, 30), r = normal(rows * size, 2);
    const Values gain = normal(size, 3);
    for_each_level([&] {
      Values y = empty(rows * size), sum = empty(rows * size);
      NormArguments a = {x.data(),    r.data(), sum.data(),
                         gain.data(), y.data(), cuda::NumberType::kFloat32,
                         rows,        size,     1e-5F};
      rms_norm(a, 2, 4);
      bool all = true;
      for (std::int64_t row = 0; row < rows; ++row) {
        double energy = 0;
        for (std::int64_t i = row * size; i < (row + 1) * size; ++i)
          energy += std::pow(static_cast<double>(x[i]) + r[i], 2);
        const double scale =
            1 / std::sqrt(energy / static_cast<double>(size) + 1e-5);
        for (std::int64_t i = 0; i < size; ++i) {
          const std::int64_t at = row * size + i;
          const double h = static_cast<double>(x[at]) + r[at];
          all = all && (row == 2 || row == 3
                            ? near(y[at], gain[i] * h * scale, 2e-6) &&
                                  sum[at] == x[at] + r[at]
                            : std::isnan(y[at]) && std::isnan(sum[at]));
        }
      }
      INFO(size);
      CHECK(all);
    });
  }
}

TEST_CASE("cpu silu_product: over the whole range of gates") {
  // Halves of one matrix, 100 gates and 100 ups a row and 3 that are not used.
  const std::int64_t rows = 40, size = 100, stride = 203;
  Values both = normal(rows * stride, 4, 20);
  both[0] = 0;
  both[1] = -200;
  both[2] = 200;
  both[3] = -87.5F;
  for_each_level([&] {
    Values y = empty(rows * size);
    SiluArguments a = {};
    a.gate = both.data();
    a.up = both.data() + size;
    a.stride = stride;
    a.y = y.data();
    a.type = cuda::NumberType::kFloat32;
    a.rows = rows;
    a.size = size;
    silu_product(a, 0, rows);
    double worst = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t i = 0; i < size; ++i) {
        const double gate = both[r * stride + i];
        const double up = both[r * stride + size + i];
        const double exact = gate / (1 + std::exp(-gate)) * up;
        const double error = std::abs(y[r * size + i] - exact);
        // Below that, e^-gate is past the largest number of fp32.
        if (gate < -85)
          CHECK(error < 1e-33);
        else
          worst = std::max(worst, error / (std::abs(exact) + 1e-30));
        CHECK_FALSE(std::isnan(y[r * size + i]));
      }
    CHECK(worst < 5e-7);
  });
}

TEST_CASE("cpu rotate_heads: pairs side by side or half a head apart") {
  // Two tokens, two heads of 6 of which 4 turn; angles 90 and 180 degrees.
  const Values x = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10,  11,  12,
                    -1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12};
  const Values cosine = {0, 0, -1, -1}, sine = {1, 1, 0, 0};
  Values y = empty(24);
  RotaryArguments a = {};
  a.x = x.data();
  a.token_stride = 12;  // [token][head]
  a.head_stride = 6;
  a.cosine = cosine.data();
  a.sine = sine.data();
  a.y = y.data();
  a.type = cuda::NumberType::kFloat32;
  a.batch = 1;
  a.heads = 2;
  a.tokens = 2;
  a.size = 6;
  a.turned = 4;
  a.interleaved = true;
  rotate_heads(a, 0, 4);
  CHECK(y == Values{-2, 1, -4,  3, 5,  6,  1, 2, 3, 4,  -5,  -6,
                    -8, 7, -10, 9, 11, 12, 7, 8, 9, 10, -11, -12});
  a.interleaved = false;
  rotate_heads(a, 0, 4);
  CHECK(y == Values{-3, -4,  1, 2, 5,  6,  1, 2, 3, 4,  -5,  -6,
                    -9, -10, 7, 8, 11, 12, 7, 8, 9, 10, -11, -12});
}

}  // namespace autoglm::kernels::cpu
