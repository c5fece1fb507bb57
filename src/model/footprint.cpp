#include "autoglm/model/footprint.h"

namespace autoglm {
namespace {

Size size_of(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  const auto count = static_cast<std::uint64_t>(tensor.numel());
  return {count, count * static_cast<std::uint64_t>(tensor.element_size())};
}

Size size_of(const Weight& weight) {
  return {static_cast<std::uint64_t>(rows(weight) * columns(weight)),
          bytes(weight)};
}

Size size_of(const Linear& linear) {
  Size out = size_of(linear.weight);
  out += size_of(linear.bias);
  return out;
}

}  // namespace

Size& Size::operator+=(const Size& other) {
  parameters += other.parameters;
  bytes += other.bytes;
  return *this;
}

Size Footprint::total() const {
  Size out;
  for (const Size* part : {&embedding, &attention, &mlp, &norms, &head, &extra})
    out += *part;
  return out;
}

Footprint footprint(const Model& model) {
  Footprint out;
  out.embedding = size_of(model.embedding);
  for (const Block& block : model.blocks) {
    Size attention, mlp, norms;
    for (const Linear* linear :
         {&block.attention.query, &block.attention.key, &block.attention.value,
          &block.attention.output})
      attention += size_of(*linear);
    for (const Linear* linear : {&block.mlp.gate_up, &block.mlp.down})
      mlp += size_of(*linear);
    for (const at::Tensor* norm :
         {&block.input_norm, &block.middle_norm, &block.after_attention_norm,
          &block.after_mlp_norm})
      norms += size_of(*norm);
    Size layer = attention;
    layer += mlp;
    layer += norms;
    out.layers.push_back(layer);
    out.attention += attention;
    out.mlp += mlp;
    out.norms += norms;
  }
  out.norms += size_of(model.final_norm);
  if (model.head) out.head = size_of(*model.head);
  for (const auto& [name, tensor] : model.extra) out.extra += size_of(tensor);
  // One row of the embedding, everything else whole; a tied head is the table.
  const std::uint64_t table = out.embedding.bytes;
  const auto rows_of_table = static_cast<std::uint64_t>(rows(model.embedding));
  out.bytes_per_token = out.attention.bytes + out.mlp.bytes + out.norms.bytes +
                        (model.head ? out.head.bytes : table) +
                        table / std::max<std::uint64_t>(1, rows_of_table);
  return out;
}

}  // namespace autoglm
