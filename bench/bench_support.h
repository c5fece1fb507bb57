// What the benchmarks of matrix products share: shapes, options, the clock.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "command_line.h"

namespace autoglm::bench {

struct Shape {
  std::string name;
  std::int64_t out, in;
};
/// The matrices of a GLM-4-9B block (H 4096, F 13696).
inline const std::vector<Shape> kShapes = {{"qkv", 4608, 4096},
                                           {"output", 4096, 4096},
                                           {"gate_up", 27392, 4096},
                                           {"down", 4096, 13696}};

struct Settings {
  int threads = static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  double seconds = 0.6;
  double quantile = 0.5;
  std::string clock = "wall";
  std::vector<std::string> shapes = {"gate_up", "down"};
  std::vector<std::int64_t> rows = {1, 4, 16, 128, 512};

  bool cpu_clock() const { return clock == "cpu"; }
  bool takes(const Shape& shape) const {
    return std::find(shapes.begin(), shapes.end(), shape.name) != shapes.end();
  }
};

inline void add_options(CLI::App& app, Settings& settings) {
  app.add_option("--threads", settings.threads, "CPU threads")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seconds", settings.seconds, "of measuring, for each time")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--quantile", settings.quantile,
                 "which of the measured times counts; 0: the fastest")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--clock", settings.clock,
                 "cpu: the program's processor time over its threads")
      ->check(CLI::IsMember({"wall", "cpu"}))
      ->capture_default_str();
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.push_back(shape.name);
  add_list(app, "--shapes", settings.shapes, "matrices of the block")
      ->check(CLI::IsMember(names));
  add_list(app, "--rows", settings.rows, "vectors multiplied at once")
      ->check(CLI::PositiveNumber);
}

/// Bytes that no cache of this machine holds. Some virtual machines report the
/// caches of the whole host; the upper limit keeps the program small there.
inline std::size_t rotation_bytes() {
  const auto cache =
      static_cast<std::size_t>(std::max(0L, sysconf(_SC_LEVEL3_CACHE_SIZE)));
  return std::clamp(4 * cache, std::size_t{128} << 20, std::size_t{384} << 20);
}

/// How many weights of that many bytes to take turns with.
inline int copies_of(std::size_t bytes) {
  return static_cast<int>(std::max<std::size_t>(2, rotation_bytes() / bytes));
}

inline double milliseconds(const Settings& settings) {
  timespec now;
  clock_gettime(
      settings.cpu_clock() ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  const double ms = 1e3 * static_cast<double>(now.tv_sec) +
                    1e-6 * static_cast<double>(now.tv_nsec);
  return settings.cpu_clock() ? ms / settings.threads : ms;
}

/// Milliseconds (the quantile asked for) of one call of `work(round)`, after a
/// warm-up with each of `rounds` different arguments.
inline double time_ms(const Settings& settings, int rounds,
                      const std::function<void(int)>& work) {
  for (int round = 0; round < rounds; ++round) work(round);
  std::vector<double> samples;
  const double start = milliseconds(settings);
  for (int round = 0;; round = (round + 1) % rounds) {
    const double mark = milliseconds(settings);
    work(round);
    const double now = milliseconds(settings);
    samples.push_back(now - mark);
    if (samples.size() >= 5 && now - start > 1e3 * settings.seconds) break;
  }
  const auto chosen =
      samples.begin() +
      static_cast<std::ptrdiff_t>(settings.quantile *
                                  static_cast<double>(samples.size() - 1));
  std::nth_element(samples.begin(), chosen, samples.end());
  return *chosen;
}

}  // namespace autoglm::bench
