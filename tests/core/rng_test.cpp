#include "autoglm/core/rng.h"

#include <algorithm>
#include <set>

#include "tests/support/catch.h"

using namespace autoglm;

TEST_CASE("rng: seeds differ by name and by run, and repeat") {
  std::set<std::uint64_t> seeds;
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    for (const char* name : {"pruning", "quantization", "pruning 2"})
      seeds.insert(derive_seed(seed, name));
  CHECK(seeds.size() == 60);
  CHECK(derive_seed(7, "a") == derive_seed(7, "a"));
}

TEST_CASE("rng: uniform numbers fill 0 to 1 evenly") {
  Rng rng(1);
  double sum = 0, least = 1, most = 0;
  for (int i = 0; i < 20000; ++i) {
    const double x = rng.uniform();
    sum += x;
    least = std::min(least, x);
    most = std::max(most, x);
  }
  CHECK(sum / 20000 == Approx(0.5).margin(0.01));
  CHECK(least >= 0);
  CHECK(most < 1);
}

TEST_CASE("rng: a permutation holds every number once; of one, just 0") {
  Rng rng(3);
  std::vector<std::int64_t> order = rng.permutation(100);
  CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  for (std::int64_t i = 0; i < 100; ++i)
    CHECK(order[static_cast<std::size_t>(i)] == i);
  CHECK(rng.permutation(1) == std::vector<std::int64_t>{0});
  CHECK(rng.permutation(0).empty());
}
