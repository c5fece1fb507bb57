#include "autoglm/core/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "autoglm/core/interrupt.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

bool visible = true;

bool on_terminal() {
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  return terminal;
}

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

}  // namespace

void set_progress_visible(bool value) { visible = value; }

Progress::Progress(std::string what, std::int64_t total, std::string unit)
    : what_(std::move(what)),
      total_(total),
      unit_(std::move(unit)),
      start_(Clock::now()),
      shown_(start_) {}

Progress::~Progress() { show(true); }

double Progress::elapsed() const { return seconds_since(start_); }

void Progress::step(std::int64_t count, const std::string& note) {
  done_ += count;
  note_ = note;
  check_interrupted();
  // A terminal is redrawn ten times a second; a pipe gets a line every 10 s.
  if (seconds_since(shown_) >= (on_terminal() ? 0.1 : 10.0)) show(false);
}

void Progress::show(bool last) {
  if (!visible) return;
  // A step that was over before it was ever shown needs no line.
  if (last && !shown_once_) return;
  shown_ = Clock::now();
  shown_once_ = true;
  const double elapsed = seconds_since(start_);
  std::string line = what_;
  if (total_ > 0) {
    const double share =
        std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
    if (on_terminal()) {
      const auto filled = static_cast<std::size_t>(share * 24);
      line +=
          " [" + std::string(filled, '#') + std::string(24 - filled, '.') + "]";
    }
    line += fmt::format(" {}/{}{}", done_, total_,
                        unit_.empty() ? "" : " " + unit_);
    if (!last && done_ > 0)
      line += ", " + format_duration(elapsed * (1 / share - 1)) + " left";
  } else {
    line += fmt::format(" {}{}", done_, unit_.empty() ? "" : " " + unit_);
  }
  if (last) line += ", " + format_duration(elapsed);
  if (!note_.empty()) line += ", " + note_;
  if (on_terminal()) {
    std::fprintf(stderr, "\r\033[K%s%s", line.c_str(), last ? "\n" : "");
    std::fflush(stderr);
  } else {
    log_info("{}", line);
  }
}

}  // namespace autoglm
