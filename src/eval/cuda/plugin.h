// The one symbol of libautoglm_cuda.so.
#pragma once

#include <cstddef>

#include "autoglm/eval/accelerator.h"

/// A new accelerator, or null pointer with the reason written to `why`.
extern "C" autoglm::Accelerator* autoglm_make_accelerator(char* why,
                                                          std::size_t size);
