// Which part of a model gets narrower next, by what its units are worth and
// what they cost.
//
// Among the widths that every part may have this minimises worth + strength *
// cost, for a strength that rises until enough has gone: the Lagrangian
// relaxation of a multiple-choice knapsack, solved by taking the cheapest move
// first. A move may skip widths, so that a plateau of the measured times,
// where the next width gains nothing, does not hide the step behind it.
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

namespace autoglm {

/// A part at the widths it may have, the widest first; vectors of one length.
struct WidthCosts {
  std::size_t level = 0;  // the width it has now
  /// What going from `level` to a narrower one loses, in any unit that all
  /// parts share, rising; earlier entries are not read.
  std::vector<double> loss;
  std::vector<double> parameters;  // of its units, falling
  std::vector<double> ms;          // measured, not rising; empty: not known
};

struct WidthMove {
  std::size_t part;
  std::size_t level;
  double price;  // loss per cost that it saves
};

/// The time that every part's parameter takes between the widest and the
/// narrowest width, ms; 0 where nothing was measured.
double mean_rate(const std::vector<WidthCosts>& parts);

/// What makes a parameter of `part` that goes at its present width worth more
/// or less than the mean one: ((ms saved / parameter) / mean)^weight of the
/// best move, at least 1e-3^weight; 1 without measured times. `mean`:
/// mean_rate(). At the narrowest width 0.
double time_factor(const WidthCosts& part, double mean, double weight);

/// The move with the least price = loss / (parameters * factor) that takes at
/// most `most` parameters; none if every part is as narrow as it may be or all
/// moves are too large. Of equals the first part's.
std::optional<WidthMove> cheapest_move(
    const std::vector<WidthCosts>& parts, double weight,
    double most = std::numeric_limits<double>::infinity());

}  // namespace autoglm
