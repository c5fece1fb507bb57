// Dense fp32 products by libtorch's own choice and by dense_product, in turns.
//
//   dense_product [--threads N] [--seconds S] [--quantile Q]
//
// Shapes are those of passes and evaluation on small models and of a GLM-4-9B
// block. GFLOP/s from the median time of a call.
#include "autoglm/model/dense_product.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/core.h>

#include "bench_support.h"

int main(int count, char** words) {
  autoglm::bench::Settings settings;
  for (int i = 1; i + 1 < count; i += 2)
    if (!autoglm::bench::read_option(words[i], words[i + 1], settings))
      return fmt::print(stderr, "unknown option {}\n", words[i]), 2;
  at::set_num_threads(settings.threads);
  const at::NoGradGuard no_grad;
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
                                      {16, 256, 1536},
                                      {4, 4096, 27392},
                                      {1, 4096, 27392}}) {
    const at::Tensor x = at::randn({rows, in}), w = at::randn({out, in});
    const double work = 2e-6 * static_cast<double>(rows * in * out);
    const double theirs = time_ms(settings, 1, [&](int) { at::linear(x, w); });
    const double ours =
        time_ms(settings, 1, [&](int) { autoglm::dense_product(x, w); });
    fmt::print("{:>6} {:>6} {:>6} {:>10.0f} {:>14.0f}\n", rows, in, out,
               work / theirs, work / ours);
  }
  return 0;
}
