// Looks at the Error that a call throws.
#pragma once

#include <string>

#include "autoglm/core/error.h"
#include "tests/support/catch.h"

namespace autoglm::test {

/// Runs `body`, which must throw an Error of `kind`; returns its text.
template <class Body>
std::string error_of(ErrorKind kind, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    INFO("message: " << error.what());
    CHECK(error.kind() == kind);
    return error.what();
  }
  FAIL("nothing was thrown");
  return "";
}

}  // namespace autoglm::test
