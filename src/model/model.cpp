#include "autoglm/model/model.h"

#include <utility>

#include "autoglm/core/error.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/dense_product.h"
#include "autoglm/model/device_kernels.h"
#include "model/few_rows.h"
#include "model/joined_linears.h"

namespace autoglm {
namespace {

using Dtype = std::optional<at::ScalarType>;  // none: as it is

at::Tensor convert(const at::Tensor& tensor, at::Device device, Dtype dtype) {
  if (!tensor.defined()) return tensor;
  if (!dtype || !at::isFloatingType(tensor.scalar_type()))
    return tensor.to(device);
  return tensor.to(device, *dtype);
}

// Products of few rows read matrices of 16 bits in half the time of fp32, and
// exactly.
bool stays_stored(const at::Tensor& value, at::Device device, Dtype dtype,
                  QuantizedProduct product) {
  return product == QuantizedProduct::kInteger && device.is_cpu() &&
         dtype == at::kFloat && has_few_rows_product(value, 1);
}

void convert(DenseWeight& weight, at::Device device, Dtype dtype,
             QuantizedProduct product) {
  if (stays_stored(weight.value, device, dtype, product))
    weight.rounds_inputs =
        weight.value.scalar_type() == at::kBFloat16 && has_bfloat16_product();
  else
    weight = {convert(weight.value, device, dtype)};
}

void convert(Weight& weight, at::Device device, Dtype dtype,
             QuantizedProduct product) {
  if (auto* dense = std::get_if<DenseWeight>(&weight))
    convert(*dense, device, dtype, product);
  else
    weight = to_device(weight, device);
  if (product == QuantizedProduct::kInteger &&
      device_kernels_for(device) == nullptr)
    weight = interleaved(weight);
}

void convert(Linear& linear, at::Device device, Dtype dtype,
             QuantizedProduct product) {
  convert(linear.weight, device, dtype, product);
  linear.bias = convert(linear.bias, device, dtype);
}

// Matrices that read the same vectors.
void join_readers(Block& block) {
  Attention& attention = block.attention;
  join({&attention.query, &attention.key, &attention.value});
  join({&attention.key_value_a, &attention.query_a});
  join({&block.mlp.gate, &block.mlp.up});
  join({&block.mixture.shared.gate, &block.mixture.shared.up});
  for (Mlp& expert : block.mixture.experts) join({&expert.gate, &expert.up});
}

Model convert(Model model, at::Device device, Dtype dtype,
              QuantizedProduct product) {
  const auto linear = [&](const std::string&, Linear& part) {
    convert(part, device, dtype, product);
  };
  const auto tensor = [&](const std::string& name, at::Tensor& part) {
    // A choice of experts hangs on small differences.
    const bool exact = name.starts_with("mlp.router.") && dtype;
    part = convert(part, device, exact ? Dtype(at::kFloat) : dtype);
  };
  // Logits of many tokens are wanted where quality is measured, and bf16 has
  // too few digits for them.
  const auto keep_logits = [](Weight& head) {
    if (auto* dense = std::get_if<DenseWeight>(&head))
      dense->rounds_inputs = false;
  };
  // Of an embedding that is no head single rows are read, in any form.
  if (model.head)
    convert(model.embedding, device,
            product == QuantizedProduct::kInteger ? std::nullopt : dtype,
            QuantizedProduct::kExact);
  else
    convert(model.embedding, device, dtype, product);
  keep_logits(model.embedding);
  model.positions = convert(model.positions, device, dtype);
  model.block_positions = convert(model.block_positions, device, dtype);
  for (Block& block : model.blocks) {
    visit_block(block, linear, tensor);
    if (product == QuantizedProduct::kInteger &&
        device_kernels_for(device) != nullptr)
      join_readers(block);
  }
  model.final_norm.gain = convert(model.final_norm.gain, device, dtype);
  model.final_norm.bias = convert(model.final_norm.bias, device, dtype);
  if (model.head) {
    convert(*model.head, device, dtype, product);
    keep_logits(model.head->weight);
  }
  return model;
}

std::int64_t ffn_of(const Mlp& mlp) { return columns(mlp.down.weight); }

void set_heads(const Architecture& a, const Attention& attention,
               BlockWidths& out) {
  const std::int64_t output = columns(attention.output.weight);
  AUTOGLM_ENSURE(output > 0 && output % a.value_size == 0);
  out.query_heads = out.kv_heads = output / a.value_size;
  if (attention.key.present()) {
    out.kv_heads = rows(attention.key.weight) / a.head_size;
  } else if (attention.query_key_value.present()) {
    out.kv_heads = (rows(attention.query_key_value.weight) / a.head_size -
                    out.query_heads) /
                   2;
  }
  AUTOGLM_ENSURE(out.kv_heads > 0 && out.query_heads % out.kv_heads == 0);
}

}  // namespace

BlockWidths widths(const Architecture& a, const Block& block) {
  BlockWidths out;
  if (block.has_attention()) set_heads(a, block.attention, out);
  if (block.is_mixture()) {
    out.experts = static_cast<std::int64_t>(block.mixture.experts.size());
    out.ffn = ffn_of(block.mixture.experts[0]);
    if (block.mixture.shared.down.present())
      out.shared_ffn = ffn_of(block.mixture.shared);
  } else if (block.has_mlp()) {
    out.ffn = ffn_of(block.mlp);
  }
  return out;
}

void update_widths(Model& model) {
  model.architecture.blocks.clear();
  for (const Block& block : model.blocks)
    model.architecture.blocks.push_back(widths(model.architecture, block));
}

const Weight& head_weight(const Model& model) {
  return model.head ? model.head->weight : model.embedding;
}

Model to_compute(Model model, at::Device device, at::ScalarType dtype,
                 QuantizedProduct product) {
  return convert(std::move(model), device, dtype, product);
}

Model to_device(const Model& model, at::Device device) {
  return convert(model, device, std::nullopt, QuantizedProduct::kExact);
}

}  // namespace autoglm
