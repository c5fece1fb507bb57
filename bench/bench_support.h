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
  bool cpu_clock = false;
  std::vector<std::string> shapes = {"gate_up", "down"};
  std::vector<std::int64_t> rows = {1, 4, 16, 128, 512};

  bool takes(const Shape& shape) const {
    return std::find(shapes.begin(), shapes.end(), shape.name) != shapes.end();
  }
};

inline std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    parts.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

/// False for an option that is not among the shared ones.
inline bool read_option(const std::string& name, const std::string& value,
                        Settings& settings) {
  if (name == "--threads")
    settings.threads = std::max(1, std::stoi(value));
  else if (name == "--seconds")
    settings.seconds = std::stod(value);
  else if (name == "--quantile")
    settings.quantile = std::clamp(std::stod(value), 0.0, 1.0);
  else if (name == "--clock")
    settings.cpu_clock = value == "cpu";
  else if (name == "--shapes")
    settings.shapes = split(value);
  else if (name == "--rows") {
    settings.rows.clear();
    for (const std::string& number : split(value))
      settings.rows.push_back(std::stoll(number));
  } else {
    return false;
  }
  return true;
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
  clock_gettime(settings.cpu_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC,
                &now);
  const double ms = 1e3 * static_cast<double>(now.tv_sec) +
                    1e-6 * static_cast<double>(now.tv_nsec);
  return settings.cpu_clock ? ms / settings.threads : ms;
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
