#include "autoglm/core/rng.h"

#include <numeric>

#include "autoglm/core/error.h"

namespace autoglm {

std::uint64_t derive_seed(std::uint64_t seed, std::string_view name) {
  // FNV-1a over the name, then the splitmix64 finaliser (Steele et al. 2014).
  std::uint64_t hash = 14695981039346656037ull ^ seed;
  for (const char c : name)
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  hash += 0x9E3779B97F4A7C15ull;
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9ull;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBull;
  return hash ^ (hash >> 31);
}

double Rng::uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

std::uint64_t Rng::below(std::uint64_t bound) {
  AUTOGLM_ENSURE(bound > 0);
  // Rejection keeps it exactly uniform.
  const std::uint64_t limit = -bound % bound;
  std::uint64_t value = bits();
  while (value < limit) value = bits();
  return value % bound;
}

std::vector<std::int64_t> Rng::permutation(std::int64_t count) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[below(i)]);
  return order;
}

}  // namespace autoglm
