// How much memory the process takes, as Linux counts it (proc(5)).
#pragma once

#include <cstdint>

namespace autoglm {

/// The largest resident size since the start of the process or the last reset,
/// in bytes, mapped files included; 0 where it is not known.
std::uint64_t peak_memory();

/// Counts from now on, where the system lets a process do so.
void reset_peak_memory();

}  // namespace autoglm
