// The only file that knows the version and, behind it, the build.
#pragma once

namespace autoglm {

/// "0.1.0", from CMake's project().
const char* version();

}  // namespace autoglm
