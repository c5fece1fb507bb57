// Checkpoints that are quantized already: how each published layout stores a
// weight, and how ours is written.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "autoglm/formats/tensor_folder.h"
#include "autoglm/model/model.h"

namespace autoglm {

/// What config.json says about weights that are stored as codes.
class StoredQuantization {
 public:
  /// compressed-tensors, GPTQ, or the int8 releases of ChatGLM; null pointer:
  /// nothing is quantized. Throws kInput for all other methods and layouts,
  /// naming them.
  static std::unique_ptr<StoredQuantization> read(
      const Architecture& architecture, const Json& config,
      const std::string& source);

  virtual ~StoredQuantization() = default;

  /// Reads the weight [out, in] stored under `module`; nothing: this module is
  /// dense. `embedding` modules are not members of the class "Linear". Throws
  /// kInput when its tensors do not fit each other.
  virtual std::optional<Weight> weight(const TensorFolder& folder,
                                       const std::string& module,
                                       std::int64_t out, std::int64_t in,
                                       bool embedding) const = 0;
  /// Ends of the names of the tensors that hold a weight.
  virtual std::vector<std::string> parts() const = 0;
};

// The readers, each in a file of its own.
std::unique_ptr<StoredQuantization> read_compressed_tensors(
    const Json& quantization, const std::string& where);
std::unique_ptr<StoredQuantization> read_gptq(const Json& quantization,
                                              const std::string& where);
std::unique_ptr<StoredQuantization> read_chatglm_int8();

/// The tensors of a weight, named below `module`: plain where it is dense, else
/// in the layout of compressed-tensors that its form has.
std::vector<std::pair<std::string, at::Tensor>> write_weight(
    const Weight& weight, const std::string& module);

/// config.json with the model's quantization_config set, or taken out when
/// nothing is quantized.
Json write_quantization_config(Json config, const Model& model);

}  // namespace autoglm
