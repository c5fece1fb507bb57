#include "autoglm/model/model.h"

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

using Dtype = std::optional<at::ScalarType>;  // none: as it is

at::Tensor convert(const at::Tensor& tensor, at::Device device, Dtype dtype) {
  if (!tensor.defined()) return tensor;
  if (!dtype || !at::isFloatingType(tensor.scalar_type()))
    return tensor.to(device);
  return tensor.to(device, *dtype);
}

Weight convert(const Weight& weight, at::Device device, Dtype dtype) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return DenseWeight{convert(dense->value, device, dtype)};
  return to_device(weight, device);
}

Linear convert(const Linear& linear, at::Device device, Dtype dtype) {
  return {convert(linear.weight, device, dtype),
          convert(linear.bias, device, dtype)};
}

Model convert(Model model, at::Device device, Dtype dtype) {
  model.embedding = convert(model.embedding, device, dtype);
  for (Block& block : model.blocks) {
    for (at::Tensor* norm : {&block.input_norm, &block.after_attention_norm,
                             &block.middle_norm, &block.after_mlp_norm})
      *norm = convert(*norm, device, dtype);
    for (Linear* linear :
         {&block.attention.query, &block.attention.key, &block.attention.value,
          &block.attention.output, &block.mlp.gate_up, &block.mlp.down})
      *linear = convert(*linear, device, dtype);
  }
  model.final_norm = convert(model.final_norm, device, dtype);
  if (model.head) model.head = convert(*model.head, device, dtype);
  return model;
}

}  // namespace

BlockWidths widths(const Block& block, std::int64_t head_size) {
  const Attention& attention = block.attention;
  AUTOGLM_ENSURE(rows(attention.query.weight) % head_size == 0);
  AUTOGLM_ENSURE(rows(attention.key.weight) % head_size == 0);
  const BlockWidths out = {rows(attention.query.weight) / head_size,
                           rows(attention.key.weight) / head_size,
                           columns(block.mlp.down.weight)};
  AUTOGLM_ENSURE(rows(attention.value.weight) == rows(attention.key.weight));
  AUTOGLM_ENSURE(columns(attention.output.weight) ==
                 rows(attention.query.weight));
  AUTOGLM_ENSURE(rows(block.mlp.gate_up.weight) == 2 * out.ffn);
  AUTOGLM_ENSURE(out.kv_heads > 0 && out.query_heads % out.kv_heads == 0);
  return out;
}

void update_widths(Model& model) {
  model.architecture.blocks.clear();
  for (const Block& block : model.blocks)
    model.architecture.blocks.push_back(
        widths(block, model.architecture.head_size));
}

const Weight& head_weight(const Model& model) {
  return model.head ? model.head->weight : model.embedding;
}

Model to_compute(const Model& model, at::Device device, at::ScalarType dtype) {
  return convert(model, device, dtype);
}

Model to_device(const Model& model, at::Device device) {
  return convert(model, device, std::nullopt);
}

}  // namespace autoglm
