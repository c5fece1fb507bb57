#include "passes/allocation.h"

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <tuple>

#include "autoglm/core/rng.h"
#include "tests/support/throws.h"

using namespace autoglm;

namespace {

using Units = std::vector<std::vector<Choice>>;

// Every combination, summed in the order of the units: least damage, then least
// bytes. No bytes: nothing fits.
Allocation brute_force(const Units& units, std::uint64_t budget) {
  Allocation best;
  best.damage = std::numeric_limits<double>::infinity();
  std::vector<std::size_t> chosen(units.size());
  const std::function<void(std::size_t, std::uint64_t, double)> visit =
      [&](std::size_t u, std::uint64_t bytes, double damage) {
        if (bytes > budget) return;
        if (u == units.size()) {
          if (std::tie(damage, bytes) < std::tie(best.damage, best.bytes))
            best = {chosen, bytes, damage};
          return;
        }
        for (chosen[u] = 0; chosen[u] < units[u].size(); ++chosen[u]) {
          const Choice& choice = units[u][chosen[u]];
          visit(u + 1, bytes + choice.bytes, damage + choice.damage);
        }
      };
  visit(0, 0, 0.0);
  return best;
}

// What was chosen sums up to what is claimed.
void check_sums(const Units& units, const Allocation& found) {
  REQUIRE(found.chosen.size() == units.size());
  std::uint64_t bytes = 0;
  double damage = 0;
  for (std::size_t u = 0; u < units.size(); ++u) {
    REQUIRE(found.chosen[u] < units[u].size());
    bytes += units[u][found.chosen[u]].bytes;
    damage += units[u][found.chosen[u]].damage;
  }
  CHECK(bytes == found.bytes);
  CHECK(damage == found.damage);
}

// How the damages of a case come about.
enum class Kind {
  kAny,      // no order at all, some below 0
  kFalling,  // a quarter for every bit
  kFew,      // 0, 1 or 2: many ties
  kPerByte,  // the same per byte everywhere: no bound helps
};

Units random_units(Rng& rng, Kind kind, std::size_t most_units,
                   std::uint64_t divisor) {
  Units units(1 + rng.below(most_units));
  for (auto& choices : units) {
    const double scale = std::exp(6 * rng.uniform());
    const std::uint64_t size = divisor * (1 + rng.below(40));
    const auto widths = static_cast<int>(1 + rng.below(5));
    for (int i = 0; i < widths; ++i) {
      const int bits =
          kind == Kind::kAny ? static_cast<int>(2 + rng.below(7)) : 2 + i;
      const std::uint64_t bytes =
          size * static_cast<std::uint64_t>(bits) + divisor * rng.below(3);
      double damage = 0;
      switch (kind) {
        case Kind::kAny:
          damage = scale * (rng.uniform() - 0.2);
          break;
        case Kind::kFalling:
          damage = scale * std::pow(0.25, bits) * (0.5 + rng.uniform());
          break;
        case Kind::kFew:
          damage = static_cast<double>(rng.below(3));
          break;
        case Kind::kPerByte:
          damage = 1e4 - static_cast<double>(bytes);
          break;
      }
      choices.push_back({bits, bytes, damage});
    }
  }
  return units;
}

}  // namespace

TEST_CASE("allocation: three units by hand") {
  // By bits 2, 4, 8. Uniform 4 bits take 40 bytes and damage 4 + 3 + 1 = 8.
  const Units units = {{{2, 5, 9}, {4, 10, 4}, {8, 20, 0}},
                       {{2, 5, 20}, {4, 10, 3}, {8, 20, 1}},
                       {{2, 10, 2}, {4, 20, 1}, {8, 40, 0}}};
  // 2 for the large unit that does not mind, what it leaves for the first:
  // 0 + 3 + 2.
  const Allocation best = allocate(units, 40);
  CHECK(best.chosen == std::vector<std::size_t>{2, 1, 0});
  CHECK(best.bytes == 40);
  CHECK(best.damage == 5);
  // Ten bytes less: 4 + 3 + 2.
  CHECK(allocate(units, 39).chosen == std::vector<std::size_t>{1, 1, 0});
  // Nothing is gained by bytes that do not help.
  CHECK(allocate(units, 39).bytes == 30);
  CHECK(allocate(units, 1000).damage == 1);
  CHECK(allocate(units, 1000).bytes == 80);
}

TEST_CASE("allocation: small cases are those of brute force") {
  Rng rng(5);
  int uneven = 0;
  for (const Kind kind :
       {Kind::kAny, Kind::kFalling, Kind::kFew, Kind::kPerByte})
    for (int repeat = 0; repeat < 250; ++repeat) {
      const Units units =
          random_units(rng, kind, 6, repeat % 2 == 0 ? 1 : 1000);
      std::uint64_t most = 0;
      for (const auto& choices : units) {
        std::uint64_t largest = 0;
        for (const Choice& choice : choices)
          largest = std::max(largest, choice.bytes);
        most += largest;
      }
      const std::uint64_t least = smallest_bytes(units);
      const std::uint64_t budget = least + rng.below(most - least + 10);
      INFO("kind " << static_cast<int>(kind) << ", repeat " << repeat);
      const Allocation expected = brute_force(units, budget);
      const Allocation found = allocate(units, budget);
      check_sums(units, found);
      CHECK(found.damage == expected.damage);
      CHECK(found.bytes == expected.bytes);
      CHECK(found.bytes <= budget);
      uneven += found.bytes < budget ? 1 : 0;
    }
  CHECK(uneven > 100);  // the budget seldom comes out even
}

TEST_CASE("allocation: a larger budget never does more damage") {
  Rng rng(17);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Units units = random_units(rng, Kind::kAny, 12, 1);
    const std::uint64_t least = smallest_bytes(units);
    double before = std::numeric_limits<double>::infinity();
    for (std::uint64_t budget = least; budget < 4 * least; budget += 7) {
      const Allocation found = allocate(units, budget);
      CHECK(found.bytes <= budget);
      CHECK(found.damage <= before);
      before = found.damage;
    }
  }
}

TEST_CASE("allocation: a budget of exactly the least leaves no choice") {
  // The smaller of two equal widths wins, and of equal sizes the better one.
  const Units units = {{{2, 5, 9}, {3, 5, 7}, {4, 10, 4}}, {{2, 8, 1}}};
  CHECK(smallest_bytes(units) == 13);
  const Allocation found = allocate(units, 13);
  CHECK(found.chosen == std::vector<std::size_t>{1, 0});
  CHECK(found.damage == 8);
}

TEST_CASE("allocation: one byte less than the least is refused") {
  const Units units = {{{2, 5000, 9}, {4, 10000, 4}}, {{2, 8000, 1}}};
  CHECK(test::error_of(ErrorKind::kConfig, [&] { allocate(units, 12999); }) ==
        "the smallest widths take 13000 bytes, more than the budget of 12999");
  CHECK_NOTHROW(allocate(units, 13000));
}

TEST_CASE("allocation: one unit and no unit") {
  const Units one = {{{2, 5, 9}, {4, 10, 4}, {8, 20, 6}}};
  CHECK(allocate(one, 9).chosen == std::vector<std::size_t>{0});
  CHECK(allocate(one, 10).chosen == std::vector<std::size_t>{1});
  // More bytes that do worse are not taken.
  CHECK(allocate(one, 100).chosen == std::vector<std::size_t>{1});
  const Allocation none = allocate({}, 0);
  CHECK(none.chosen.empty());
  CHECK(none.bytes == 0);
}

TEST_CASE("allocation: without damage the smallest is chosen") {
  const Units units(50, {{2, 5, 0}, {4, 10, 0}, {8, 20, 0}});
  const Allocation found = allocate(units, 1000);
  CHECK(found.bytes == 250);
  CHECK(found.damage == 0);
}

TEST_CASE("allocation: a model of 160 units takes less than a second") {
  // Forty blocks of GLM-4-9B (hidden 4096, feed-forward 13696), 2 to 8 bits in
  // groups of 128; once alike, once pruned to widths of their own.
  for (const bool alike : {true, false}) {
    Rng rng(23);
    Units units;
    for (int block = 0; block < 40; ++block)
      for (const std::uint64_t rows : {4608, 4096, 27392, 13696}) {
        const std::uint64_t elements =
            4096 * (alike ? rows : rows - rng.below(rows / 2));
        const double scale = std::exp(4 * rng.uniform());
        std::vector<Choice> choices;
        for (std::uint64_t bits = 2; bits <= 8; ++bits)
          choices.push_back(
              {static_cast<int>(bits), elements * bits / 8 + elements / 64,
               scale * std::pow(0.25, bits) * (0.7 + 0.6 * rng.uniform())});
        units.push_back(choices);
      }
    for (const double average : {2.2, 3.5, 4.25, 6.0}) {
      double elements = 0;
      for (const auto& choices : units)
        elements += static_cast<double>(choices.back().bytes) / 1.015625;
      const auto budget = static_cast<std::uint64_t>(elements * average / 8);
      const auto begin = std::chrono::steady_clock::now();
      const Allocation found = allocate(units, budget);
      const std::chrono::duration<double> seconds =
          std::chrono::steady_clock::now() - begin;
      INFO((alike ? "alike, " : "different, ")
           << average << " bits: " << seconds.count() << " s");
      CHECK(seconds.count() < 1);
      check_sums(units, found);
      CHECK(found.bytes <= budget);
      // What is left over is less than the smallest step of a unit.
      CHECK(budget - found.bytes < 4096 * 4608 / 8);
    }
  }
}

TEST_CASE("allocation: what takes too many states says so") {
  // Subset sums: every total is a state of its own, and none is better.
  Rng rng(3);
  Units units;
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t bytes = 1 + rng.below(std::uint64_t{1} << 40);
    units.push_back({{2, 0, 0}, {4, bytes, -static_cast<double>(bytes)}});
  }
  CHECK(
      test::error_of(ErrorKind::kResources,
                     [&] { allocate(units, std::uint64_t{1} << 43, 1000); }) ==
      "allocating widths to 40 units takes more than 1000 states; give fewer "
      "widths or units");
}
