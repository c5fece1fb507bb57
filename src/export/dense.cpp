#include "autoglm/export/dense.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"

namespace autoglm {
namespace {

struct Named {
  const char* name;   // on our command line
  const char* torch;  // in config.json
  at::ScalarType dtype;
};

constexpr Named kDtypes[] = {{"bf16", "bfloat16", at::kBFloat16},
                             {"fp16", "float16", at::kHalf},
                             {"fp32", "float32", at::kFloat}};

Named find_dtype(const Model& model, const std::string& name) {
  const at::ScalarType own = autoglm::dtype(model.embedding);
  for (const Named& known : kDtypes)
    if (name == known.name || (name == "auto" && own == known.dtype))
      return known;
  fail(ErrorKind::kConfig,
       fmt::format("unknown dtype '{}'; known: auto, bf16, fp16, fp32", name));
}

// Half precision ends at 65504; bf16 and fp32 hold every value of each other's
// range.
at::Tensor convert(const at::Tensor& tensor, at::ScalarType dtype,
                   const std::string& name) {
  if (!tensor.defined() || tensor.scalar_type() == dtype ||
      !at::isFloatingType(tensor.scalar_type()))
    return tensor;
  const at::Tensor out = tensor.to(dtype);
  if (dtype == at::kHalf && !at::isfinite(out).all().item<bool>() &&
      at::isfinite(tensor).all().item<bool>())
    fail(ErrorKind::kNumeric,
         fmt::format("{} has values beyond the range of fp16 (65504); export "
                     "as bf16 or fp32",
                     name));
  return out;
}

}  // namespace

Model dense_model(const Model& model, const std::string& dtype) {
  const Named target = find_dtype(model, dtype);
  Model out = model;
  for (const NamedLinear& linear : named_linears(model)) {
    Weight& weight = weight_of(out, linear.name);
    // What is dense already stays as it is unless another type is asked for.
    const auto* dense = std::get_if<DenseWeight>(&weight);
    const at::Tensor value =
        dense != nullptr ? dense->value : to_dense(weight, at::kFloat);
    if (dense == nullptr || dtype != "auto")
      weight =
          DenseWeight{convert(value, target.dtype, linear.checkpoint_name)};
  }
  out.architecture.kv_cache_bits = 0;
  out.config.erase("quantization_config");
  out.config.erase("quantization_bit");
  if (dtype == "auto") return out;
  out.positions = convert(out.positions, target.dtype, "the position table");
  out.block_positions =
      convert(out.block_positions, target.dtype, "the block position table");
  for (std::size_t i = 0; i < out.blocks.size(); ++i)
    visit_block(
        out.blocks[i],
        [&](const std::string& name, Linear& part) {
          part.bias = convert(part.bias, target.dtype,
                              fmt::format("layers.{}.{} bias", i, name));
        },
        [&](const std::string& name, at::Tensor& part) {
          // Published checkpoints keep it in fp32, whatever the others are.
          if (name.ends_with("correction_bias")) return;
          part =
              convert(part, target.dtype, fmt::format("layers.{}.{}", i, name));
        });
  out.final_norm.gain =
      convert(out.final_norm.gain, target.dtype, "the final norm");
  out.final_norm.bias =
      convert(out.final_norm.bias, target.dtype, "the final norm's bias");
  if (out.head)
    out.head->bias = convert(out.head->bias, target.dtype, "the head's bias");
  // Newer transformers write `dtype`, older ones `torch_dtype`.
  const char* key = out.config.contains("dtype") ? "dtype" : "torch_dtype";
  out.config[key] = target.torch;
  return out;
}

}  // namespace autoglm
