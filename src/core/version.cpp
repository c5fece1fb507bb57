#include "autoglm/core/version.h"

namespace autoglm {

const char* version() { return AUTOGLM_VERSION; }

}  // namespace autoglm
