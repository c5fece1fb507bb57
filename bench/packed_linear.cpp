// How fast are the low-bit products, against memory and against libtorch?
//
//   packed_linear [--threads N] [--bits 4,8] [--rows 1,4,16,128,512]
//                 [--group 64] [--shapes gate_up,down] [--kernel NAME]
//                 [--exact yes|no] [--dense yes|no] [--seconds S]
//                 [--quantile Q] [--clock wall|cpu]
//
// Shapes are those of a GLM-4-9B block (H 4096, F 13696): qkv, output, gate_up,
// down. Per shape, number of x rows and weight: milliseconds; GB/s of the
// weight's bytes (codes, scales); that as a share of the read bandwidth of the
// same run; GFLOP/s; the speed against at::linear with bf16 and fp32 weights.
// "int4" rounds x to 8 bits (integer_linear), "int4 exact" does not
// (packed_linear, up to 16 rows as in the model). Rounding x is part of the
// time. Weights are rotated over more copies than the caches hold, as a decode
// step does; codes are random. Times are medians. For a machine that others use
// there are --quantile 0, the fastest, and --clock cpu, the processor time of
// the program over its threads, which is what compute-bound work would take if
// nobody else were there (with GOMP_SPINCOUNT=0, so that waiting costs none).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "autoglm/kernels/integer_linear.h"
#include "bench_support.h"

namespace {

namespace kernels = autoglm::kernels;
using autoglm::bench::copies_of;
using autoglm::bench::kShapes;
using autoglm::bench::Shape;
using autoglm::bench::time_ms;

struct Settings : autoglm::bench::Settings {
  bool exact = true, dense = true;
  std::int64_t group = 64;
  std::string kernel = "auto";
  std::vector<int> bits = {4, 8};
};

using Words = std::uint64_t __attribute__((vector_size(64)));

__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
std::uint64_t
read_through(const std::uint8_t* memory, std::size_t bytes) {
  Words sums[4] = {};
  for (std::size_t at = 0; at + 256 <= bytes; at += 256) {
    __builtin_prefetch(memory + at + 8192);
    __builtin_prefetch(memory + at + 8256);
    __builtin_prefetch(memory + at + 8320);
    __builtin_prefetch(memory + at + 8384);
    for (int i = 0; i < 4; ++i) {
      Words words;
      std::memcpy(&words, memory + at + 64 * i, sizeof words);
      sums[i] += words;
    }
  }
  const Words all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  std::uint64_t total = 0;
  for (int lane = 0; lane < 8; ++lane) total += all[lane];
  return total;
}

// Random bytes, each page first written by the thread that will read it.
std::shared_ptr<std::uint8_t> random_bytes(std::size_t bytes) {
  std::shared_ptr<std::uint8_t> memory = kernels::streamed_memory(bytes);
  at::parallel_for(0, static_cast<std::int64_t>(bytes / 8), 1 << 20,
                   [&](std::int64_t begin, std::int64_t end) {
                     auto state = static_cast<std::uint64_t>(begin) + 1;
                     for (std::int64_t i = begin; i < end; ++i) {
                       state ^= state << 13, state ^= state >> 7,
                           state ^= state << 17;
                       std::memcpy(memory.get() + 8 * i, &state, 8);
                     }
                   });
  return memory;
}

double read_bandwidth(const Settings& settings) {
  constexpr std::int64_t kWindow = 32 << 20;
  const auto bytes =
      static_cast<std::int64_t>(autoglm::bench::rotation_bytes());
  const auto memory = random_bytes(static_cast<std::size_t>(bytes));
  volatile std::uint64_t sink = 0;
  const double ms =
      time_ms(settings, static_cast<int>(bytes / kWindow), [&](int round) {
        at::parallel_for(0, kWindow, kWindow / settings.threads,
                         [&](std::int64_t begin, std::int64_t end) {
                           sink = read_through(
                               memory.get() + round * kWindow + begin,
                               static_cast<std::size_t>(end - begin));
                         });
      });
  return 1e-6 * static_cast<double>(kWindow) / ms;
}

double dense_ms(const Settings& settings, const Shape& shape, std::int64_t rows,
                at::ScalarType dtype) {
  const std::size_t each =
      static_cast<std::size_t>(shape.out * shape.in) * at::elementSize(dtype);
  std::vector<at::Tensor> weights;
  for (int i = 0; i < copies_of(each); ++i)
    weights.push_back(at::randn({shape.out, shape.in}, dtype));
  const at::Tensor x = at::randn({rows, shape.in}, dtype);
  return time_ms(settings, static_cast<int>(weights.size()), [&](int round) {
    at::linear(x, weights[static_cast<std::size_t>(round)]);
  });
}

struct Timed {
  double ms;
  double bytes;  // of the weight
};

// The scale 0.01 in bf16, for all copies alike: a 64th of the bytes at most.
std::vector<std::uint16_t> scales_of(std::int64_t count) {
  return std::vector<std::uint16_t>(static_cast<std::size_t>(count), 0x3c23);
}

Timed exact_ms(const Settings& settings, const Shape& shape, std::int64_t rows,
               int bits) {
  kernels::PackedMatrix w{};
  w.out = shape.out;
  w.in = shape.in;
  w.group_size = settings.group;
  w.bits = bits;
  w.scale_type = kernels::ScaleType::kBFloat16;
  const auto each = static_cast<std::size_t>(w.out * w.words() * 4);
  const int copies = copies_of(each);
  const auto codes = random_bytes(each * static_cast<std::size_t>(copies));
  const auto scales = scales_of(w.out * w.groups());
  w.scales = scales.data();
  const at::Tensor x = at::randn({rows, shape.in});
  at::Tensor y = at::empty({rows, shape.out});
  const double ms = time_ms(settings, copies, [&](int round) {
    kernels::PackedMatrix mine = w;
    mine.codes = reinterpret_cast<const std::uint32_t*>(
        codes.get() + static_cast<std::size_t>(round) * each);
    at::parallel_for(0, w.out, 64, [&](std::int64_t begin, std::int64_t end) {
      kernels::packed_linear(mine, x.const_data_ptr<float>(), rows,
                             y.data_ptr<float>(), begin, end);
    });
  });
  return {ms, static_cast<double>(each + 2 * scales.size())};
}

Timed integer_ms(const Settings& settings, const Shape& shape,
                 std::int64_t rows, int bits) {
  kernels::InterleavedMatrix w{};
  w.out = shape.out;
  w.in = shape.in;
  w.group_size = settings.group;
  w.bits = bits;
  w.scale_type = kernels::ScaleType::kBFloat16;
  const auto each = static_cast<std::size_t>(
      w.tiles() * kernels::tile_bytes(w.in, w.group_size, bits));
  const int copies = copies_of(each);
  const auto codes = random_bytes(each * static_cast<std::size_t>(copies));
  const std::int64_t cells = w.tiles() * w.groups() * kernels::kTileRows;
  const auto scales = scales_of(cells * copies);
  const at::Tensor x = at::randn({rows, shape.in});
  at::Tensor y = at::empty({rows, shape.out});
  const double ms = time_ms(settings, copies, [&](int round) {
    kernels::InterleavedMatrix mine = w;
    mine.codes = codes.get() + static_cast<std::size_t>(round) * each;
    mine.scales = scales.data() + round * cells;
    kernels::IntegerRows rounded(rows, {w.in, w.group_size});
    at::parallel_for(0, rows, 8, [&](std::int64_t begin, std::int64_t end) {
      rounded.round(x.const_data_ptr<float>(), begin, end);
    });
    at::parallel_for(0, w.tiles(), 4,
                     [&](std::int64_t begin, std::int64_t end) {
                       kernels::integer_linear(mine, rounded,
                                               y.data_ptr<float>(), begin, end);
                     });
  });
  return {ms, static_cast<double>(each) + 2.0 * static_cast<double>(cells)};
}

void run(const Settings& settings) {
  at::set_num_threads(settings.threads);
  const at::NoGradGuard no_grad;
  const double bandwidth = read_bandwidth(settings);
  fmt::print(
      "{} threads, {} time, kernels {} and {}, group size {}, read bandwidth "
      "{:.1f} GB/s\n\n{:>8} {:>5} {:>11} {:>9} {:>7} {:>7} {:>8} {:>7} {:>7}\n",
      settings.threads, settings.cpu_clock() ? "processor" : "wall",
      kernels::integer_linear_kernel(), kernels::packed_linear_kernel(),
      settings.group, bandwidth, "shape", "rows", "weight", "ms", "GB/s",
      "% read", "GFLOP/s", "x bf16", "x fp32");
  for (const Shape& shape : kShapes) {
    if (!settings.takes(shape)) continue;
    const double elements = static_cast<double>(shape.out * shape.in);
    for (const std::int64_t rows : settings.rows) {
      double bf16 = 0, fp32 = 0;
      const auto line = [&](const std::string& name, const Timed& timed) {
        const double rate = 1e-6 * timed.bytes / timed.ms;
        const auto times = [&](double other) {
          return other > 0 ? fmt::format("{:.2f}", other / timed.ms) : "";
        };
        fmt::print(
            "{:>8} {:>5} {:>11} {:>9.3f} {:>7.1f} {:>7.0f} {:>8.0f} {:>7} "
            "{:>7}\n",
            shape.name, rows, name, timed.ms, rate, 100 * rate / bandwidth,
            2e-6 * elements * static_cast<double>(rows) / timed.ms, times(bf16),
            times(fp32));
        std::fflush(stdout);
      };
      if (settings.dense) {
        fp32 = dense_ms(settings, shape, rows, at::kFloat);
        bf16 = dense_ms(settings, shape, rows, at::kBFloat16);
        line("fp32", {fp32, 4 * elements});
        line("bf16", {bf16, 2 * elements});
      }
      for (const int bits : settings.bits) {
        if (settings.exact && rows <= 16)
          line(fmt::format("int{} exact", bits),
               exact_ms(settings, shape, rows, bits));
        line(fmt::format("int{}", bits),
             integer_ms(settings, shape, rows, bits));
      }
    }
  }
}

}  // namespace

int main(int count, char** words) {
  Settings settings;
  CLI::App app("Low-bit products, against memory and against libtorch.",
               "packed_linear");
  add_options(app, settings);
  autoglm::bench::add_list(app, "--bits", settings.bits, "of the weights")
      ->check(CLI::Range(2, 8));
  app.add_option("--group", settings.group, "weights that share a scale")
      ->check(CLI::Range(4, 1 << 20))
      ->capture_default_str();
  app.add_option("--kernel", settings.kernel, "of the integer products")
      ->capture_default_str();
  app.add_option("--exact", settings.exact, "also with x as it is (yes, no)")
      ->capture_default_str();
  app.add_option("--dense", settings.dense, "also dense weights (yes, no)")
      ->capture_default_str();
  return autoglm::bench::run_program(app, count, words, [&] {
    if (!kernels::force_integer_linear_kernel(settings.kernel.c_str()))
      throw CLI::ValidationError("--kernel",
                                 "this machine cannot run " + settings.kernel);
    settings.group -= settings.group % 4;
    run(settings);
  });
}
