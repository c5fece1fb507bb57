// Which of several implementations of the same functions runs.
#pragma once

#include <atomic>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace autoglm::kernels {

/// A table of functions per instruction set, of which the best that runs here
/// is taken. `Implementation` has a member `name`.
template <class Implementation>
class Choice {
 public:
  struct Candidate {
    const Implementation* implementation;  // null pointer: not built
    bool runs_here;
  };

  /// From the best on; one of them runs everywhere.
  Choice(std::initializer_list<Candidate> candidates) {
    for (const Candidate& one : candidates)
      if (one.implementation != nullptr && one.runs_here)
        usable_.push_back(one.implementation);
    current_ = usable_.front();
  }

  const Implementation* operator->() const { return &get(); }
  const Implementation& get() const {
    return *current_.load(std::memory_order_relaxed);
  }

  /// For tests: one that is not among them.
  void force(const Implementation& one) { current_ = &one; }

  /// For tests and benchmarks: one by its name, or the best again by "auto".
  /// False, and nothing changes, if it does not run here.
  bool force(std::string_view name) {
    for (const Implementation* one : usable_)
      if (name == "auto" || name == one->name) {
        current_ = one;
        return true;
      }
    return false;
  }

 private:
  std::vector<const Implementation*> usable_;
  std::atomic<const Implementation*> current_;
};

}  // namespace autoglm::kernels
