// Progress of a long step: a live bar with the time left on a terminal, at
// most one timestamped line every few seconds on a pipe. Every step() is also
// the place where Ctrl-C is noticed (core/interrupt.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace autoglm {

class Progress {
 public:
  /// `total` steps of `unit` ("windows", "blocks"); 0 when not known.
  Progress(std::string what, std::int64_t total, std::string unit = "");
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Advances by `count` and shows `note` ("loss 2.31") beside the bar.
  /// Throws kInterrupted after Ctrl-C.
  void step(std::int64_t count = 1, const std::string& note = "");

  /// Seconds since construction.
  double elapsed() const;

 private:
  void show(bool last);

  std::string what_;
  std::int64_t total_;
  std::string unit_;
  std::int64_t done_ = 0;
  std::string note_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point shown_;
  bool shown_once_ = false;
};

/// Off for --quiet and --json consumers that read stderr as well.
void set_progress_visible(bool visible);

}  // namespace autoglm
