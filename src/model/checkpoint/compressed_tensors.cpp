// The layouts of compressed-tensors: below a module
//   pack-quantized   weight_packed int32, weight_scale, weight_shape, and
//                    weight_zero_point where asymmetric
//   int-quantized    weight int8, weight_scale, weight_zero_point
//   float-quantized  weight e4m3, weight_scale
// and input_scale where activations are rounded by a stored step.
// https://github.com/vllm-project/compressed-tensors
#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "model/checkpoint/stored_quantization.h"
#include "model/checkpoint/stored_schemes.h"
#include "model/checkpoint/stored_tensors.h"

namespace autoglm {
namespace {

class CompressedTensors : public StoredQuantization {
 public:
  CompressedTensors(const Json& quantization, const std::string& where)
      : schemes_(quantization, where) {}

  std::optional<Weight> weight(const TensorFolder& folder,
                               const std::string& module, std::int64_t out,
                               std::int64_t in, bool embedding) const override {
    const StoredScheme* scheme = schemes_.find(module, embedding);
    // A class target covers the embedding or a module that was left dense.
    if (scheme == nullptr ||
        !folder.contains(module +
                         (scheme->packed ? ".weight_packed" : ".weight_scale")))
      return std::nullopt;
    const std::int64_t group_size =
        scheme->group_size > 0 ? scheme->group_size : in;
    if (in % group_size != 0)
      fail(ErrorKind::kInput,
           fmt::format("{}: rows of {} do not divide into groups of {}", module,
                       in, group_size));
    const at::Tensor scales =
        scales_of(folder, module, *scheme, out, in / group_size);
    const ActivationScheme activations =
        activations_of(folder, module, *scheme);
    if (scheme->float8)
      return Float8Weight{read_checked(folder, module + ".weight",
                                       at::kFloat8_e4m3fn, {out, in}),
                          scales, activations};
    QuantizedWeight w;
    w.activations = activations;
    w.out = out;
    w.in = in;
    w.bits = scheme->bits;
    w.group_size = group_size;
    w.scales = scales;
    if (!scheme->packed)
      return whole_bytes(folder, module, *scheme, std::move(w));
    check_shape(folder, module + ".weight_shape", out, in);
    w.codes = read_checked(folder, module + ".weight_packed", at::kInt,
                           {out, (in * w.bits + 31) / 32});
    if (!scheme->symmetric)
      w.zeros = unpack_columns(
          read_checked(folder, module + ".weight_zero_point", at::kInt,
                       {(out * w.bits + 31) / 32, w.groups()}),
          out, w.bits);
    return w;
  }

  std::vector<std::string> parts() const override {
    return {".weight_packed",     ".weight",
            ".weight_scale",      ".weight_shape",
            ".weight_zero_point", ".input_scale"};
  }

 private:
  // [out, groups]; one for the whole matrix is repeated for every row.
  static at::Tensor scales_of(const TensorFolder& folder,
                              const std::string& module,
                              const StoredScheme& scheme, std::int64_t out,
                              std::int64_t groups) {
    const std::string name = module + ".weight_scale";
    if (!scheme.per_tensor) return read_scales(folder, name, {out, groups});
    return read_scales(folder, name, {1}).expand({out, 1}).contiguous();
  }

  static ActivationScheme activations_of(const TensorFolder& folder,
                                         const std::string& module,
                                         const StoredScheme& scheme) {
    ActivationScheme out;
    out.quantized = scheme.activations;
    if (!scheme.static_activations) return out;
    const std::string name = module + ".input_scale";
    out.scale = read_scales(folder, name, {1});
    if (!(out.scale > 0).logical_and(at::isfinite(out.scale)).item<bool>())
      wrong_tensor(folder, name, "a number above 0");
    return out;
  }

  static void check_shape(const TensorFolder& folder, const std::string& name,
                          std::int64_t out, std::int64_t in) {
    if (!folder.contains(name)) return;
    const at::Tensor shape = folder.tensor(name).to(at::kLong);
    if (shape.numel() != 2 || shape[0].item<std::int64_t>() != out ||
        shape[1].item<std::int64_t>() != in)
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' does not say [{}, {}] as config.json "
                       "asks",
                       folder.file_of(name).string(), name, out, in));
  }

  // int-quantized: one signed byte per code, whatever its width.
  static QuantizedWeight whole_bytes(const TensorFolder& folder,
                                     const std::string& module,
                                     const StoredScheme& scheme,
                                     QuantizedWeight w) {
    const int middle = 1 << (w.bits - 1);
    const auto unsigned_codes = [&](const std::string& name,
                                    const std::vector<std::int64_t>& shape) {
      const at::Tensor codes =
          read_checked(folder, name, at::kChar, shape).to(at::kInt) + middle;
      if ((codes < 0).logical_or(codes >= 2 * middle).any().item<bool>())
        wrong_tensor(folder, name, fmt::format("numbers of {} bits", w.bits));
      return codes.to(at::kByte);
    };
    const at::Tensor codes = unsigned_codes(module + ".weight", {w.out, w.in});
    if (!scheme.symmetric)
      w.zeros =
          unsigned_codes(module + ".weight_zero_point", {w.out, w.groups()});
    QuantizedWeight out =
        pack_weight(codes, w.scales, w.zeros, w.bits, w.group_size);
    out.activations = w.activations;
    return out;
  }

  StoredSchemes schemes_;
};

}  // namespace

std::unique_ptr<StoredQuantization> read_compressed_tensors(
    const Json& quantization, const std::string& where) {
  return std::make_unique<CompressedTensors>(quantization, where);
}

}  // namespace autoglm
