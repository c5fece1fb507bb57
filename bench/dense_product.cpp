// Dense products on the CPU, ours and libtorch's in turns: in fp32 by
// dense_product, and with few rows by apply_linear.
//
//   dense_product [--threads N] [--seconds S] [--quantile Q]
//
// Shapes are those of passes and evaluation on small models and of a GLM-4-9B
// block. GFLOP/s and, with few rows, the gigabytes of the matrix per second,
// from the median time of a call.
#include "autoglm/model/dense_product.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/core.h>

#include "autoglm/model/weight.h"
#include "bench_support.h"

namespace {

using autoglm::bench::Settings;

void compare_fp32(const Settings& settings) {
  fmt::print(
      "{} threads, dense_product by {}, GFLOP/s\n\n{:>6} {:>6} {:>6}"
      " {:>10} {:>14}\n",
      settings.threads, autoglm::dense_product_library(), "rows", "in", "out",
      "at::linear", "dense_product");
  struct Shape {
    std::int64_t rows, in, out;
  };
  for (const auto& [rows, in, out] : {Shape{2048, 256, 1536},
                                      {2048, 768, 256},
                                      {768, 32768, 768},
                                      {512, 4096, 27392},
                                      {16, 256, 1536}}) {
    const at::Tensor x = at::randn({rows, in}), w = at::randn({out, in});
    const double work = 2e-6 * static_cast<double>(rows * in * out);
    const double theirs = time_ms(settings, 1, [&](int) { at::linear(x, w); });
    const double ours =
        time_ms(settings, 1, [&](int) { autoglm::dense_product(x, w); });
    fmt::print("{:>6} {:>6} {:>6} {:>10.0f} {:>14.0f}\n", rows, in, out,
               work / theirs, work / ours);
  }
}

// One matrix of a GLM-4-9B block, which no cache holds.
void compare_few_rows(const Settings& settings) {
  constexpr std::int64_t kIn = 4096, kOut = 27392;
  fmt::print("\n{} x {}, few rows, GB/s\n\n{:>6} {:>16} {:>16} {:>16} {:>16}\n",
             kOut, kIn, "rows", "fp32 at::linear", "apply_linear",
             "bf16 at::linear", "apply_linear");
  const at::Tensor single = at::randn({kOut, kIn});
  const at::Tensor half = single.to(at::kBFloat16);
  for (const std::int64_t rows : {1, 2, 4, 8}) {
    const at::Tensor x = at::randn({rows, kIn});
    std::string line = fmt::format("{:>6}", rows);
    for (const at::Tensor& w : {single, half}) {
      const at::Tensor own = x.to(w.scalar_type());
      const autoglm::Weight weight = autoglm::DenseWeight{w};
      const double theirs =
          time_ms(settings, 1, [&](int) { at::linear(own, w); });
      const double ours = time_ms(
          settings, 1, [&](int) { autoglm::apply_linear(x, weight, {}); });
      const double megabytes = 1e-6 * static_cast<double>(w.nbytes());
      line += fmt::format(" {:>16.1f} {:>16.1f}", megabytes / theirs,
                          megabytes / ours);
    }
    fmt::print("{}\n", line);
  }
}

}  // namespace

int main(int count, char** words) {
  autoglm::bench::Settings settings;
  CLI::App app("Dense products on the CPU, ours and libtorch's in turns.",
               "dense_product");
  add_options(app, settings);
  return autoglm::bench::run_program(app, count, words, [&] {
    at::set_num_threads(settings.threads);
    const at::NoGradGuard no_grad;
    compare_fp32(settings);
    compare_few_rows(settings);
  });
}
