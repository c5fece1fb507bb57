// Randomness from one seed. Every step derives its own seed by name, so that
// inserting a step does not reshuffle the others, and the numbers are the same
// on every platform (the standard library's distributions are not).
#pragma once

#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

namespace autoglm {

/// A seed for the step `name`, well mixed from the run's seed.
std::uint64_t derive_seed(std::uint64_t seed, std::string_view name);

class Rng {
 public:
  explicit Rng(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t bits() { return engine_(); }
  /// Uniform in [0, 1).
  double uniform();
  /// Uniform integer in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound);
  /// A random order of 0 .. count-1.
  std::vector<std::int64_t> permutation(std::int64_t count);

 private:
  std::mt19937_64 engine_;
};

}  // namespace autoglm
