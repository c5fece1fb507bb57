// Ctrl-C as an ordinary error: the signal handler only sets a flag, long loops
// ask for it, and the stack unwinds so that temporary files are removed.
#pragma once

namespace autoglm {

/// Handles SIGINT and SIGTERM; a second SIGINT kills the process at once.
void install_interrupt_handler();

bool interrupted();

/// Throws kInterrupted if the flag is set.
void check_interrupted();

/// For tests: sets or clears the flag.
void set_interrupted(bool value);

}  // namespace autoglm
