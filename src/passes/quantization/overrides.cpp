#include "passes/quantization/overrides.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {

std::map<std::string, MatrixOverride> resolve_overrides(
    const Model& model, const std::vector<QuantizationOverride>& overrides) {
  std::map<std::string, MatrixOverride> out;
  for (std::size_t i = 0; i < overrides.size(); ++i) {
    const QuantizationOverride& entry = overrides[i];
    const std::string where = fmt::format("quantization.overrides[{}]", i);
    if (entry.layers.empty())
      fail(ErrorKind::kConfig, where + ".layers lists no globs");
    if (!entry.bits && !entry.group_size && !entry.symmetric && !entry.method &&
        !entry.ignore)
      fail(ErrorKind::kConfig,
           where +
               " changes nothing; give it bits, group_size, symmetric, "
               "method or ignore");
    const std::vector<std::string> names =
        with_context([&] { return where + ".layers"; },
                     [&] { return select_linears(model, entry.layers); });
    for (const std::string& name : names) {
      MatrixOverride& matrix = out[name];
      if (entry.bits) matrix.bits = entry.bits;
      if (entry.group_size) matrix.group_size = entry.group_size;
      if (entry.symmetric) matrix.symmetric = entry.symmetric;
      if (entry.method) matrix.method = entry.method;
      if (entry.ignore) matrix.ignore = *entry.ignore;
    }
  }
  return out;
}

}  // namespace autoglm
