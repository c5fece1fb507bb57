#include "autoglm/core/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

std::atomic<bool> flag = false;
static_assert(std::atomic<bool>::is_always_lock_free,
              "the signal handler may touch it");

void on_signal(int) {
  // The second time the user means it: leave at once, temporary files stay.
  if (flag.exchange(true)) _exit(130);
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return flag; }

void check_interrupted() {
  if (flag) fail(ErrorKind::kInterrupted, "interrupted");
}

void set_interrupted(bool value) { flag = value; }

}  // namespace autoglm
