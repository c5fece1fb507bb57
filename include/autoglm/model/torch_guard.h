// libtorch's exceptions as ours, in one place: out of memory is a matter of
// resources, everything else from there is a bug of ours.
#pragma once

#include <c10/util/Exception.h>

#include <new>
#include <string>
#include <utility>

#include "autoglm/core/error.h"

namespace autoglm {

/// Runs `body`; throws kResources or kInternal for what libtorch throws.
template <class Body>
auto guard_torch(Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const c10::OutOfMemoryError& error) {
    fail(ErrorKind::kResources,
         std::string("out of memory: ") + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    if (text.find("not enough memory") != std::string::npos ||
        text.find("can't allocate memory") != std::string::npos)
      fail(ErrorKind::kResources, "out of memory: " + text);
    fail(ErrorKind::kInternal, "libtorch: " + text);
  } catch (const std::bad_alloc&) {
    fail(ErrorKind::kResources, "out of memory");
  }
}

}  // namespace autoglm
