// What the tests of the CPU's stream kernels share.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "autoglm/kernels/cpu_stream_kernels.h"
#include "tests/support/catch.h"

namespace autoglm::test {

using Values = std::vector<float>;

/// Random numbers on a bell curve of standard deviation `size`.
inline Values normal(std::int64_t count, unsigned seed, float size = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw(0, size);
  Values out(static_cast<std::size_t>(count));
  for (float& value : out) value = draw(random);
  return out;
}

/// For results: NaN where nothing is written.
inline Values empty(std::int64_t count) {
  return Values(static_cast<std::size_t>(count),
                std::numeric_limits<float>::quiet_NaN());
}

/// Runs `body` once per version of the kernels that this machine has.
template <class Body>
void for_each_level(Body&& body) {
  struct Restore {
    ~Restore() { kernels::cpu::force_stream_kernel("auto"); }
  } restore;
  for (const char* name : {"scalar", "avx2", "avx512"}) {
    if (!kernels::cpu::force_stream_kernel(name)) continue;
    INFO("level " << name);
    CHECK(std::string(kernels::cpu::stream_kernel()) == name);
    body();
  }
}

/// NaN counts as far.
inline bool near(float found, double expected, double tolerance) {
  return std::abs(found - expected) <= tolerance * (1 + std::abs(expected));
}

}  // namespace autoglm::test
