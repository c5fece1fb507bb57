#include "autoglm/passes/pass.h"

namespace autoglm {

namespace passes {
#define AUTOGLM_PASS(folder, name) PassInfo name();
#include "passes/passes.def"
#undef AUTOGLM_PASS
}  // namespace passes

const std::vector<PassInfo>& pass_catalogue() {
  static const std::vector<PassInfo> catalogue = {
#define AUTOGLM_PASS(folder, name) passes::name(),
#include "passes/passes.def"
#undef AUTOGLM_PASS
  };
  return catalogue;
}

const PassInfo* find_pass(const std::string& type) {
  for (const PassInfo& info : pass_catalogue())
    if (info.type == type) return &info;
  return nullptr;
}

}  // namespace autoglm
