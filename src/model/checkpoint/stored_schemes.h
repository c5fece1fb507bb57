// What the compressed-tensors entry of config.json says about the modules of a
// checkpoint. https://github.com/vllm-project/compressed-tensors
#pragma once

#include <cstdint>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "autoglm/core/json.h"

namespace autoglm {

/// How the weights of one config group are stored.
struct StoredScheme {
  bool packed = false;  // into words of 32 bits; else a byte per element
  bool float8 = false;  // e4m3 numbers instead of integer codes
  int bits = 0;
  std::int64_t group_size = 0;  // 0: one scale per row
  bool per_tensor = false;      // one scale for all rows
  bool symmetric = true;
  bool activations = false;         // rounded too,
  bool static_activations = false;  // by a stored step
};

/// Names of modules, or of their classes, and patterns over them ("re:...").
class StoredTargets {
 public:
  StoredTargets(const Json& list, const std::string& where);
  bool match(const std::string& module) const;

 private:
  std::set<std::string> names_;
  std::vector<std::regex> patterns_;
};

class StoredSchemes {
 public:
  /// Throws kInput, beginning with `where`, for everything that is not
  /// supported.
  StoredSchemes(const Json& quantization, const std::string& where);

  /// Null pointer: this module is dense. `embedding` modules are of the class
  /// "Embedding", all others of the class "Linear".
  const StoredScheme* find(const std::string& module, bool embedding) const;

 private:
  struct Group {
    StoredTargets targets;
    StoredScheme scheme;
  };
  std::vector<Group> groups_;
  StoredTargets ignore_;
};

}  // namespace autoglm
