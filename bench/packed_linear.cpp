// How close does the packed low-bit product come to memory bandwidth?
//
//   packed_linear [--threads N] [--kernel avx512|avx2|scalar] [--bits 4,8]
//                 [--rows 1,4,16] [--seconds S] [--quantile Q]
//
// Per shape, width and number of x rows: milliseconds, GB/s of packed codes,
// that as a share of the copy bandwidth measured in the same run, GFLOP/s, and
// the speed against dense bf16 and fp32 weights. Weights are rotated over more
// copies than the caches hold, as a decode step does; codes are random. Times
// are medians; --quantile 0 gives the fastest, for a machine that others use.
#include "autoglm/kernels/packed_linear.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using autoglm::kernels::PackedMatrix;
using autoglm::kernels::ScaleType;

struct Settings {
  int threads = 0;
  double seconds = 0.6;
  double quantile = 0.5;
  std::string kernel = "auto";
  std::vector<int> bits = {8, 4};
  std::vector<int> rows = {1, 4, 16};
};

std::vector<int> number_list(const std::string& text) {
  std::vector<int> numbers;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    numbers.push_back(std::atoi(text.substr(at, comma - at).c_str()));
    at = comma + 1;
  }
  return numbers;
}

// Bytes that no cache of this machine holds. Some virtual machines report the
// caches of the whole host; the upper limit keeps the program small there.
std::size_t rotation_bytes() {
  const auto cache =
      static_cast<std::size_t>(std::max(0L, sysconf(_SC_LEVEL3_CACHE_SIZE)));
  return std::clamp(4 * cache, std::size_t{128} << 20, std::size_t{384} << 20);
}

/// Milliseconds (the quantile asked for) of one call of `work(thread, round)`
/// on all threads at once, after a warm-up round trip over `rounds` different
/// arguments.
double time_ms(const Settings& settings, int rounds,
               const std::function<void(int, int)>& work) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> samples;
  bool done = false;
  Clock::time_point mark, end;
  int count = -rounds;
  std::barrier barrier(settings.threads, [&]() noexcept {
    const Clock::time_point now = Clock::now();
    if (count == 0)
      end = now + std::chrono::duration_cast<Clock::duration>(
                      std::chrono::duration<double>(settings.seconds));
    if (count > 0)
      samples.push_back(
          std::chrono::duration<double, std::milli>(now - mark).count());
    done = count > rounds && now > end;
    ++count;
    mark = Clock::now();
  });
  std::vector<std::jthread> threads;
  for (int t = 0; t < settings.threads; ++t)
    threads.emplace_back([&, t] {
      for (int round = 0; !done; round = (round + 1) % rounds) {
        work(t, round);
        barrier.arrive_and_wait();
      }
    });
  threads.clear();
  const auto chosen =
      samples.begin() +
      static_cast<std::ptrdiff_t>(settings.quantile *
                                  static_cast<double>(samples.size() - 1));
  std::nth_element(samples.begin(), chosen, samples.end());
  return *chosen;
}

struct Range {
  std::int64_t begin, end;
};

Range share(std::int64_t total, int thread, int threads) {
  return {total * thread / threads, total * (thread + 1) / threads};
}

double copy_bandwidth(const Settings& settings) {
  const std::size_t bytes = rotation_bytes();
  std::vector<char> from(bytes, 1), to(bytes, 2);
  const double ms = time_ms(settings, 2, [&](int t, int) {
    const Range r =
        share(static_cast<std::int64_t>(bytes), t, settings.threads);
    std::memcpy(&to[r.begin], &from[r.begin], r.end - r.begin);
  });
  return 2e-6 * static_cast<double>(bytes) / ms;
}

// Vectors of the compiler, so that the baseline is as wide as the machine.
using Floats = float __attribute__((vector_size(64)));
using Words = std::uint32_t __attribute__((vector_size(64)));
using Halves = std::uint16_t __attribute__((vector_size(32)));
constexpr int kLanes = 16, kChains = 4;

__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3",
                             "default"))) float
dot_float(const float* a, const float* x, std::int64_t n) {
  Floats sums[kChains] = {};
  for (std::int64_t k = 0; k + kLanes * kChains <= n; k += kLanes * kChains)
    for (int c = 0; c < kChains; ++c) {
      Floats av, xv;
      std::memcpy(&av, a + k + c * kLanes, sizeof av);
      std::memcpy(&xv, x + k + c * kLanes, sizeof xv);
      sums[c] += av * xv;
    }
  const Floats sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float total = 0;
  for (int l = 0; l < kLanes; ++l) total += sum[l];
  return total;
}

__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3",
                             "default"))) float
dot_bfloat16(const std::uint16_t* a, const float* x, std::int64_t n) {
  Floats sums[kChains] = {};
  for (std::int64_t k = 0; k + kLanes * kChains <= n; k += kLanes * kChains)
    for (int c = 0; c < kChains; ++c) {
      Halves half;
      Floats xv;
      std::memcpy(&half, a + k + c * kLanes, sizeof half);
      std::memcpy(&xv, x + k + c * kLanes, sizeof xv);
      const Words bits = __builtin_convertvector(half, Words) << 16;
      Floats av;
      std::memcpy(&av, &bits, sizeof av);
      sums[c] += av * xv;
    }
  const Floats sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float total = 0;
  for (int l = 0; l < kLanes; ++l) total += sum[l];
  return total;
}

float dot(const float* a, const float* x, std::int64_t n) {
  return dot_float(a, x, n);
}
float dot(const std::uint16_t* a, const float* x, std::int64_t n) {
  return dot_bfloat16(a, x, n);
}

template <class T>
double dense_ms(const Settings& settings, std::int64_t out, std::int64_t in,
                int rows) {
  const std::size_t each = static_cast<std::size_t>(out * in);
  const int copies = static_cast<int>(
      std::max<std::size_t>(2, rotation_bytes() / (each * sizeof(T))));
  std::vector<T> weights(each * copies, T{1});
  const std::vector<float> x(static_cast<std::size_t>(rows * in), 0.5f);
  std::vector<float> y(static_cast<std::size_t>(rows * out));
  return time_ms(settings, copies, [&](int t, int round) {
    const Range r = share(out, t, settings.threads);
    for (std::int64_t o = r.begin; o < r.end; ++o)
      for (int m = 0; m < rows; ++m)
        y[m * out + o] =
            dot(weights.data() + round * each + o * in, x.data() + m * in, in);
  });
}

double packed_ms(const Settings& settings, std::int64_t out, std::int64_t in,
                 int bits, int rows) {
  PackedMatrix w{};
  w.out = out;
  w.in = in;
  w.group_size = 128;
  w.bits = bits;
  w.scale_type = ScaleType::kBFloat16;
  const std::size_t each = static_cast<std::size_t>(out * w.words());
  const int copies =
      static_cast<int>(std::max<std::size_t>(2, rotation_bytes() / (each * 4)));
  std::mt19937 random(1);
  std::vector<std::uint32_t> codes(each * copies);
  for (std::uint32_t& word : codes) word = static_cast<std::uint32_t>(random());
  const std::vector<std::uint16_t> scales(
      static_cast<std::size_t>(out * w.groups()), 0x3c23);  // 0.01
  w.scales = scales.data();
  std::vector<float> x(static_cast<std::size_t>(rows * in));
  for (float& value : x)
    value = static_cast<float>(random()) / 4294967296.f - 0.5f;
  std::vector<float> y(static_cast<std::size_t>(rows * out));
  return time_ms(settings, copies, [&](int t, int round) {
    PackedMatrix mine = w;
    mine.codes = codes.data() + round * each;
    const Range r = share(out, t, settings.threads);
    autoglm::kernels::packed_linear(mine, x.data(), rows, y.data(), r.begin,
                                    r.end);
  });
}

void run(const Settings& settings) {
  const double copy = copy_bandwidth(settings);
  fmt::print(
      "{} threads, kernel {}, copy bandwidth {:.1f} GB/s "
      "(bytes read + written)\n\n",
      settings.threads, autoglm::kernels::packed_linear_kernel(), copy);
  fmt::print("{:>12} {:>4} {:>4} {:>9} {:>8} {:>7} {:>8} {:>8} {:>8}\n",
             "out x in", "bits", "rows", "ms", "GB/s", "% copy", "GFLOP/s",
             "x bf16", "x fp32");
  for (const auto& [out, in] :
       {std::pair<std::int64_t, std::int64_t>{4096, 4096}, {13696, 4096}}) {
    for (const int rows : settings.rows) {
      const double bf16 = dense_ms<std::uint16_t>(settings, out, in, rows);
      const double fp32 = dense_ms<float>(settings, out, in, rows);
      const double flop = 2e-6 * static_cast<double>(out * in) * rows;
      const auto line = [&](int bits, double ms, const std::string& name) {
        const double rate =
            static_cast<double>(out * in) * bits / 8 * 1e-6 / ms;
        fmt::print(
            "{:>12} {:>4} {:>4} {:>9.3f} {:>8.1f} {:>7.0f} {:>8.1f} "
            "{:>8.2f} {:>8.2f}\n",
            fmt::format("{}x{}", out, in), name, rows, ms, rate,
            100 * rate / copy, flop / ms, bf16 / ms, fp32 / ms);
      };
      line(32, fp32, "fp32");
      line(16, bf16, "bf16");
      for (const int bits : settings.bits)
        line(bits, packed_ms(settings, out, in, bits, rows),
             std::to_string(bits));
    }
  }
}

}  // namespace

int main(int count, char** words) {
  Settings settings;
  settings.threads =
      static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = words[i], value = words[i + 1];
    if (name == "--threads")
      settings.threads = std::max(1, std::stoi(value));
    else if (name == "--kernel")
      settings.kernel = value;
    else if (name == "--seconds")
      settings.seconds = std::stod(value);
    else if (name == "--quantile")
      settings.quantile = std::clamp(std::stod(value), 0.0, 1.0);
    else if (name == "--bits")
      settings.bits = number_list(value);
    else if (name == "--rows")
      settings.rows = number_list(value);
    else
      return fmt::print(stderr, "unknown option {}\n", name), 2;
  }
  if (!autoglm::kernels::force_packed_linear_kernel(settings.kernel.c_str())) {
    fmt::print(stderr, "this machine cannot run kernel {}\n", settings.kernel);
    return 2;
  }
  run(settings);
  return 0;
}
