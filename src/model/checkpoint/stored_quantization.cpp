#include "model/checkpoint/stored_quantization.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "model/checkpoint/stored_tensors.h"

namespace autoglm {
namespace {

// The releases of ChatGLM that were quantized by their own code: int8 rows
// with one scale each, quantization_bit in config.json.
class ChatGlmInt8 : public StoredQuantization {
 public:
  std::optional<Weight> weight(const TensorFolder& folder,
                               const std::string& module, std::int64_t out,
                               std::int64_t in, bool) const override {
    if (!folder.contains(module + ".weight_scale")) return std::nullopt;
    const at::Tensor values =
        read_checked(folder, module + ".weight", at::kChar, {out, in});
    const at::Tensor scales =
        read_scales(folder, module + ".weight_scale", {out});
    return pack_weight(values.bitwise_xor(-128).view(at::kByte),
                       scales.unsqueeze(1), {}, 8, in);
  }
  std::vector<std::string> parts() const override {
    return {".weight", ".weight_scale"};
  }
};

}  // namespace

std::unique_ptr<StoredQuantization> read_chatglm_int8() {
  return std::make_unique<ChatGlmInt8>();
}

std::unique_ptr<StoredQuantization> StoredQuantization::read(
    const Architecture& architecture, const Json& config,
    const std::string& source) {
  const std::string where = source + ": quantization_config";
  if (config.contains("quantization_config") &&
      !config["quantization_config"].is_null()) {
    const Json& quantization = config["quantization_config"];
    const std::string method = json_string(quantization, "quant_method", where);
    if (method == "compressed-tensors")
      return read_compressed_tensors(quantization, where);
    if (method == "gptq") return read_gptq(quantization, where);
    fail(ErrorKind::kInput,
         fmt::format("{}: quant_method {} is not supported; compressed-tensors "
                     "and gptq are",
                     where, method));
  }
  if (architecture.family->model_type != "chatglm") return nullptr;
  const std::int64_t bits = json_int_or(config, "quantization_bit", 0, source);
  if (bits == 8) return read_chatglm_int8();
  if (bits != 0)
    fail(ErrorKind::kInput,
         fmt::format("{}: quantization_bit {} is not supported; 8 is, and the "
                     "unquantized release of the model",
                     source, bits));
  return nullptr;
}

}  // namespace autoglm
