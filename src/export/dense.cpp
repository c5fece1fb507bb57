#include "autoglm/export/dense.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

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
  const at::ScalarType own = model.final_norm.scalar_type();
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
    weight = DenseWeight{convert(to_dense(weight, at::kFloat), target.dtype,
                                 linear.checkpoint_name)};
  }
  for (std::size_t i = 0; i < out.blocks.size(); ++i) {
    Block& block = out.blocks[i];
    for (Linear* linear :
         {&block.attention.query, &block.attention.key, &block.attention.value,
          &block.attention.output, &block.mlp.gate_up, &block.mlp.down})
      linear->bias = convert(linear->bias, target.dtype,
                             fmt::format("a bias of layer {}", i));
    for (at::Tensor* norm : {&block.input_norm, &block.after_attention_norm,
                             &block.middle_norm, &block.after_mlp_norm})
      *norm =
          convert(*norm, target.dtype, fmt::format("a norm of layer {}", i));
  }
  out.final_norm = convert(out.final_norm, target.dtype, "the final norm");
  if (out.head)
    out.head->bias = convert(out.head->bias, target.dtype, "the head's bias");
  out.config.erase("quantization_config");
  // Newer transformers write `dtype`, older ones `torch_dtype`.
  const char* key = out.config.contains("dtype") ? "dtype" : "torch_dtype";
  out.config[key] = target.torch;
  return out;
}

}  // namespace autoglm
