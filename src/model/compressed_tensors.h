// The `pack-quantized` layout of compressed-tensors: its entry in config.json
// and the tensors of one weight. Format: compressed-tensors, "pack-quantized"
// (weight_packed, weight_scale, weight_shape, weight_zero_point).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "autoglm/formats/safetensors.h"
#include "autoglm/model/model.h"

namespace autoglm {

/// The scheme of one weight, as a config group states it.
struct PackedScheme {
  int bits = 0;
  std::int64_t group_size = 0;  // 0: one scale per row
  bool symmetric = true;
};

/// What quantization_config says of module names.
class QuantizationConfig {
 public:
  /// Reads config["quantization_config"]; absent: nothing is quantized.
  /// Throws kInput for other methods and formats, naming them.
  static QuantizationConfig read(const Json& config, const std::string& source);

  /// The scheme of a module, or null pointer. `embedding` modules are not
  /// members of the class "Linear".
  const PackedScheme* find(const std::string& module, bool embedding) const;

 private:
  struct Group {
    std::vector<std::string> targets;
    PackedScheme scheme;
  };
  std::vector<Group> groups_;
  std::vector<std::string> ignore_;
};

/// Reads the tensors of a packed weight [out, in] stored under `module`.
/// Throws kInput when they do not fit each other.
QuantizedWeight read_packed(const TensorFolder& folder,
                            const std::string& module,
                            const PackedScheme& scheme, std::int64_t out,
                            std::int64_t in);

/// The tensors of a packed weight, named below `module`.
std::vector<std::pair<std::string, at::Tensor>> write_packed(
    const QuantizedWeight& weight, const std::string& module);

/// config.json with the model's quantization_config set, or taken out when
/// nothing is quantized.
Json write_quantization_config(Json config, const Model& model);

}  // namespace autoglm
