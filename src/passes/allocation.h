// Which width each unit gets, so that the total damage is least within a budget
// of bytes: the multiple-choice knapsack problem, solved exactly.
//
// CalibTIP (arXiv 2006.10518, section 3.3) states it as an integer program over
// measured losses that are taken to add up. Here it is a dynamic program over
// the units: its states are the pairs of bytes and damage that no other pair
// reached so far beats in both. Two things keep them few, and neither costs
// exactness. Pairs of equal bytes are one state, so sizes with a common divisor
// d (blocks that are alike) make at most budget / d of them. And a state whose
// best possible ending, bounded by the Lagrangian relaxation (Pisinger,
// European Journal of Operational Research 83, 1995), is worse than a solution
// that is already known is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace autoglm {

/// One width of one unit.
struct Choice {
  int bits = 0;
  std::uint64_t bytes = 0;
  double damage = 0;  // finite; may rise with the bits, and may be negative
};

struct Allocation {
  std::vector<std::size_t> chosen;  // one per unit: the index of its choice
  std::uint64_t bytes = 0;
  double damage = 0;  // summed in the order of the units
};

/// The least bytes the units can take together. Every unit has a choice.
std::uint64_t smallest_bytes(const std::vector<std::vector<Choice>>& units);

/// The choice of every unit with the least total damage within `budget` bytes;
/// of equal ones, the smallest. Throws kConfig if not even the smallest widths
/// fit, kResources if more than `most_states` states (8 bytes each) are to be
/// kept: that takes very many units, sizes without a common divisor and the
/// same damage per byte everywhere.
Allocation allocate(const std::vector<std::vector<Choice>>& units,
                    std::uint64_t budget,
                    std::size_t most_states = std::size_t{1} << 25);

}  // namespace autoglm
