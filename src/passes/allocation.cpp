#include "passes/allocation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

using Units = std::vector<std::vector<Choice>>;

// How a state was reached; kept for all units, to walk back along.
struct Origin {
  std::uint32_t state;  // of the units before
  std::uint32_t choice;
};

struct State {
  std::uint64_t bytes;
  double damage;
  Origin origin;
};

// The lower left convex hull of a unit's choices: from the smallest on, each
// step saves less damage per byte than the one before.
std::vector<std::size_t> hull(const std::vector<Choice>& choices) {
  std::vector<std::size_t> order(choices.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(choices[a].bytes, choices[a].damage, a) <
           std::tie(choices[b].bytes, choices[b].damage, b);
  });
  const auto saved_per_byte = [&](std::size_t a, std::size_t b) {
    return (choices[a].damage - choices[b].damage) /
           static_cast<double>(choices[b].bytes - choices[a].bytes);
  };
  std::vector<std::size_t> out;
  for (const std::size_t next : order) {
    if (!out.empty() && choices[next].damage >= choices[out.back()].damage)
      continue;
    while (out.size() >= 2 && saved_per_byte(out[out.size() - 2], out.back()) <=
                                  saved_per_byte(out.back(), next))
      out.pop_back();
    out.push_back(next);
  }
  return out;
}

// A solution to beat, and what a byte is worth around it.
struct Start {
  double damage = 0;
  double price = 0;  // damage per byte, >= 0
};

// Steps along the hulls, the most saving ones first, while they fit.
Start greedy(const Units& units, std::uint64_t budget) {
  struct Step {
    double saved;  // per byte
    std::size_t unit, to;
    std::uint64_t bytes;
  };
  std::vector<std::size_t> chosen;
  std::vector<Step> steps;
  std::uint64_t left = budget - smallest_bytes(units);
  for (std::size_t u = 0; u < units.size(); ++u) {
    const std::vector<std::size_t> corners = hull(units[u]);
    chosen.push_back(corners[0]);
    for (std::size_t i = 1; i < corners.size(); ++i) {
      const Choice& from = units[u][corners[i - 1]];
      const Choice& to = units[u][corners[i]];
      const std::uint64_t bytes = to.bytes - from.bytes;
      steps.push_back({(from.damage - to.damage) / static_cast<double>(bytes),
                       u, corners[i], bytes});
    }
  }
  std::stable_sort(
      steps.begin(), steps.end(),
      [](const Step& a, const Step& b) { return a.saved > b.saved; });
  Start out;
  std::vector<bool> stopped(units.size(), false);
  for (const Step& step : steps) {
    if (stopped[step.unit]) continue;
    if (step.bytes > left) {
      if (out.price == 0) out.price = step.saved;
      stopped[step.unit] = true;
      continue;
    }
    left -= step.bytes;
    chosen[step.unit] = step.to;
  }
  for (std::size_t u = 0; u < units.size(); ++u)
    out.damage += units[u][chosen[u]].damage;
  return out;
}

// What the units from the u-th on take at the least.
struct Rest {
  std::uint64_t bytes = 0;
  double priced = 0;  // damage + price * bytes
};

std::vector<Rest> rests(const Units& units, double price) {
  std::vector<Rest> out(units.size() + 1);
  for (std::size_t u = units.size(); u-- > 0;) {
    std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max();
    double priced = std::numeric_limits<double>::infinity();
    for (const Choice& choice : units[u]) {
      bytes = std::min(bytes, choice.bytes);
      priced = std::min(
          priced, choice.damage + price * static_cast<double>(choice.bytes));
    }
    out[u] = {out[u + 1].bytes + bytes, out[u + 1].priced + priced};
  }
  return out;
}

// The states after one more unit, by bytes, each with less damage than all
// before it. `states` are so too, hence those that follow by one choice are in
// order, and those by all choices are merged.
template <class Hopeful>
std::vector<State> extended(const std::vector<State>& states,
                            const std::vector<Choice>& choices,
                            const Hopeful& hopeful) {
  std::vector<State> out;
  std::vector<std::size_t> at(choices.size(), 0);
  double least = std::numeric_limits<double>::infinity();
  while (true) {
    bool any = false;
    State best = {};
    for (std::size_t c = 0; c < choices.size(); ++c) {
      if (at[c] == states.size()) continue;
      const State candidate = {
          states[at[c]].bytes + choices[c].bytes,
          states[at[c]].damage + choices[c].damage,
          {static_cast<std::uint32_t>(at[c]), static_cast<std::uint32_t>(c)}};
      if (any && std::tie(best.bytes, best.damage) <=
                     std::tie(candidate.bytes, candidate.damage))
        continue;
      best = candidate;
      any = true;
    }
    if (!any) return out;
    ++at[best.origin.choice];
    if (best.damage >= least) continue;
    least = best.damage;
    if (hopeful(best)) out.push_back(best);
  }
}

}  // namespace

std::uint64_t smallest_bytes(const Units& units) {
  return rests(units, 0)[0].bytes;
}

Allocation allocate(const Units& units, std::uint64_t budget,
                    std::size_t most_states) {
  double size = 0;  // of the damages, for what rounding may take
  for (const auto& choices : units) {
    AUTOGLM_ENSURE(!choices.empty());
    double most = 0;
    for (const Choice& choice : choices) {
      AUTOGLM_ENSURE(std::isfinite(choice.damage));
      most = std::max(most, std::abs(choice.damage));
    }
    size += most;
  }
  const std::uint64_t smallest = smallest_bytes(units);
  if (smallest > budget)
    fail(ErrorKind::kConfig,
         fmt::format(
             "the smallest widths take {} bytes, more than the budget of {}",
             smallest, budget));
  const Start start = greedy(units, budget);
  const std::vector<Rest> rest = rests(units, start.price);
  // A state is dropped only where its bound is worse by more than rounding can
  // be: the sums below hold far less than 10^6 terms.
  const double worst =
      start.damage + 1e-9 * (size + start.price * static_cast<double>(budget));

  std::vector<std::vector<Origin>> origins;
  std::vector<State> states = {{0, 0, {0, 0}}};
  std::size_t kept = 0;
  for (std::size_t u = 0; u < units.size(); ++u) {
    check_interrupted();
    // Lagrange: however a state ends, damage + price * (bytes - budget) is no
    // more than its damage then.
    const Rest& then = rest[u + 1];
    std::vector<State> next =
        extended(states, units[u], [&](const State& state) {
          if (state.bytes + then.bytes > budget) return false;
          const double unspent =
              static_cast<double>(budget) - static_cast<double>(state.bytes);
          if (state.damage + then.priced - start.price * unspent > worst)
            return false;
          if (++kept > most_states)
            fail(ErrorKind::kResources,
                 fmt::format("allocating widths to {} units takes more than {} "
                             "states; give fewer widths or units",
                             units.size(), most_states));
          return true;
        });
    origins.emplace_back();
    for (const State& state : next) origins.back().push_back(state.origin);
    states = std::move(next);
  }

  // By bytes, damage falls: the last state is the best.
  AUTOGLM_ENSURE(!states.empty());
  Allocation out;
  out.bytes = states.back().bytes;
  out.damage = states.back().damage;
  out.chosen.resize(units.size());
  std::uint32_t at = static_cast<std::uint32_t>(states.size() - 1);
  for (std::size_t u = units.size(); u-- > 0;) {
    out.chosen[u] = origins[u][at].choice;
    at = origins[u][at].state;
  }
  return out;
}

}  // namespace autoglm
